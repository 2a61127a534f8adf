"""Profiles: what people, cars and the sun do through a year, from data or from the sky.

==========================  ============================================================================
:func:`simbench_profiles`   the 282 profiles that come with SimBench's grids
:func:`table_profiles`      meter data in CSV or Parquet, with every flaw told by line and time
:func:`pvlib_profile`       PV of a place on earth under a clear or a cloudy sky, or from a weather file
:class:`ArrayProfiles`      figures that you have at hand
``Profiles.combine``        several of them as one store
==========================  ============================================================================

All of them are :class:`Profiles`: names, a UTC grid, and :meth:`Profiles.window` to cut a piece out.
"""

from __future__ import annotations

from sim.profile_store import ArrayProfiles, ProfileError, Profiles
from sim.profiles_simbench import simbench_profiles
from sim.profiles_tables import table_profiles
from sim.solar import pvlib_profile

__all__ = ["ArrayProfiles", "ProfileError", "Profiles", "pvlib_profile", "simbench_profiles", "table_profiles"]
