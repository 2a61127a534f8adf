// The moving part of a report: draws the figures, keeps moment, member and run in step, and in the URL.
//
// Static figures come from Python as plotly JSON. Six charts are made here because they follow the reader: the map,
// the voltage profile, the heat map, the envelope, and the convergence of one clearing. Names of people reach the page
// through textContent or through esc(), never as markup.
(async () => {
"use strict";
const began = performance.now();
const $ = (query, root = document) => root.querySelector(query), $$ = (query, root = document) => [...root.querySelectorAll(query)];

// --- data -----------------------------------------------------------------------------------------------------------
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const unzip = async id => new Response(new Blob([bytes($(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
let raw;
if ($("#data").dataset.packed === "gzip") {
  if (!("DecompressionStream" in window)) { $("#old").hidden = false; return; }
  const [library, data] = await Promise.all([unzip("#library"), unzip("#data")]);
  const script = document.createElement("script");
  script.textContent = library;
  document.head.append(script);
  raw = data;
} else raw = $("#data").textContent;
const {figures, live: L} = JSON.parse(raw), C = L.clock;
const NO_VALUE = -32768, NO_LIMIT = 32767;
const int16 = text => { const b = bytes(text); return new Int16Array(b.buffer, 0, b.length >> 1); };
const moving = L.moving ?? {block: 1, voltage: [], loading: [], transformer: [], envelope: [], envelope_members: []};
const grid = L.grid && moving.voltage.length ? L.grid : null;
const voltage = moving.voltage.map(world => world.map(int16)), loading = moving.loading.map(world => world.map(bytes)), transformer = moving.transformer.map(world => world.map(bytes));
const envelope = moving.envelope.map(w => Object.fromEntries(Object.entries(w).map(([k, v]) => [k, int16(v)])));
const windows = L.windows, block = moving.block, stepsOf = w => Math.ceil(w.steps / block);

// --- words ----------------------------------------------------------------------------------------------------------
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const esc = text => String(text).replaceAll("<", "‹").replaceAll(">", "›").replaceAll("&", "&amp;");
const local = t => { let minutes = 0; for (const [from, m] of C.offsets) if (t >= from) minutes = m; return new Date((C.start + t * C.step + minutes * 60) * 1000); };
const two = n => String(n).padStart(2, "0");
const hour = d => `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
const moment = t => { const d = local(t); return `${DAYS[d.getUTCDay()]} ${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}, ${hour(d)}`; };
const num = (v, digits = 0, signed = false) => {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  const body = Math.abs(v).toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, "\u202f");
  return (/[1-9]/.test(body) ? (v < 0 ? "−" : signed ? "+" : "") : "") + body;
};
const cash = (v, signed = false) => num(v + Math.sign(v) * 5e-7, Math.abs(v) >= 999.995 ? 0 : 2, signed);
const percent = v => num(v, Math.abs(v) > 0 && Math.abs(v) < 9.95 ? 1 : 0) + "\u00a0%";
const volts = raw => raw === NO_VALUE ? "no result" : num(raw / 100, 1, true) + "\u00a0%";
const element = (tag, text, name) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (name) e.className = name; return e; };

// --- state: moment, run, member; kept in the URL -----------------------------------------------------------------------
const S = {t: L.start.t, run: 0, who: L.start.who};
const most = {t: C.steps - 1, run: L.worlds.length - 1, who: L.members.id.length - 1};
const read = () => { for (const pair of location.hash.slice(1).split("&")) { const [k, v] = pair.split("="); if (k in S && /^\d+$/.test(v ?? "")) S[k] = Math.min(+v, most[k]); } };
const save = () => history.replaceState(null, "", `#t=${S.t}&run=${S.run}&who=${S.who}`);
read();
let win = 0;
const windowOf = t => Math.max(0, windows.findIndex(w => t >= w.start && t < w.start + w.steps));
const column = () => Math.min(stepsOf(windows[win]) - 1, Math.max(0, Math.floor((S.t - windows[win].start) / block)));
const at = (world, bus) => voltage[world][win][bus * stepsOf(windows[win]) + column()];

// --- colours: figures name roles, the page resolves them ---------------------------------------------------------------
let style = getComputedStyle(document.documentElement), known = {};
const V = name => known[name] ??= style.getPropertyValue(name).trim();
const paint = o => {
  if (typeof o === "string") return o.startsWith("var(") ? V(o.slice(4, -1)) : o;
  if (Array.isArray(o)) return typeof o[0] === "number" && typeof o[1] !== "string" ? o : o.map(paint);
  if (o && typeof o === "object" && !ArrayBuffer.isView(o)) return Object.fromEntries(Object.entries(o).map(([k, v]) => [k, paint(v)]));
  return o;
};
const narrow = () => innerWidth < 640;
const PAPER = 680; // A4 less its margins, in CSS pixels
let printing = false;

// --- axes -------------------------------------------------------------------------------------------------------------
const dayOf = d => Math.floor(d.getTime() / 864e5);
function timeTicks(lo, hi, width) { // labels in the middle of days, or at round hours when zoomed in
  const days = (hi - lo) * C.step / 86400, room = Math.max(2, Math.floor(width / (narrow() ? 36 : 64))), values = [], names = [], starts = [];
  if (days > 2.2) {
    let begin = Math.max(0, Math.floor(lo));
    const spans = [];
    for (let t = begin + 1; t <= Math.min(C.steps, Math.ceil(hi) + 1); t++) if (t === C.steps || dayOf(local(t)) !== dayOf(local(begin))) { spans.push([begin, t]); begin = t; }
    const each = Math.ceil(spans.length / room);
    spans.forEach(([a, b], k) => {
      const d = local(a);
      starts.push(a);
      if (days > 62 ? d.getUTCDate() === 1 : k % each === 0 && (b - a) * C.step >= 21600) {
        values.push(days > 62 ? a : (a + b) / 2);
        names.push(days > 62 ? MONTHS[d.getUTCMonth()].slice(0, 3) : narrow() && each === 1 ? DAYS[d.getUTCDay()] : `${DAYS[d.getUTCDay()]} ${d.getUTCDate()}`);
      }
    });
    return {tickvals: values, ticktext: names, ticks: "", minor: days > 62 ? {} : {tickvals: starts, ticks: "outside", ticklen: 4, tickcolor: "var(--axis)"}};
  }
  const each = [0.25, 0.5, 1, 2, 3, 6, 12].find(h => days * 24 / h <= room) ?? 12;
  for (let t = Math.max(0, Math.ceil(lo)); t <= Math.min(C.steps, hi); t++) {
    const d = local(t);
    if ((d.getUTCHours() * 60 + d.getUTCMinutes()) % (each * 60) === 0) { values.push(t); names.push(d.getUTCHours() + d.getUTCMinutes() ? hour(d) : `${DAYS[d.getUTCDay()]} ${d.getUTCDate()}`); }
  }
  return {tickvals: values, ticktext: names, ticks: "outside", minor: {}};
}
let shown = null; // the zoomed range of all time charts; null is everything
const whole = () => L.windows.length > 1 ? null : [0, Math.max(C.steps - 1, 1)];
const axis = o => ({showgrid: false, zeroline: false, showline: true, linecolor: "var(--axis)", tickcolor: "var(--axis)", ticks: "outside", ticklen: 4, ...o});
const layout = (height, o) => ({
  height, margin: {l: 46, r: 14, t: 14, b: 30}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
  font: {family: "var(--font)", size: 12, color: "var(--ink2)"},
  hoverlabel: {bgcolor: "var(--paper)", bordercolor: "var(--rule)", font: {family: "var(--font)", size: 12, color: "var(--ink)"}}, ...o,
});
const note = (text, o) => ({text, showarrow: false, font: {size: 11, color: "var(--ink2)"}, ...o});
// a sentence in lines of so many letters at most, for where a chart is narrow; a word that is longer is cut
const broken = (text, letters) => text.match(new RegExp(`\\S{${letters}}|\\S.{0,${letters - 1}}(?=\\s|$)`, "g")).map(esc).join("<br>");
const windowRange = () => [windows[win].start, windows[win].start + Math.max(windows[win].steps - 1, 1)];
const windowX = () => Array.from({length: stepsOf(windows[win])}, (_, k) => windows[win].start + k * block);

// --- colour of a voltage: a scale inside the band, the limit's colour outside it ---------------------------------------
const hi = Math.round((L.limits.v_max_pu - 1) * 1e4), lo = Math.round((L.limits.v_min_pu - 1) * 1e4);
const pad = (hi - lo) * 0.05, z0 = lo - pad, z1 = hi + pad, place = v => (v - z0) / (z1 - z0);
const scale = [[0, "var(--v-under)"], [place(lo) - 1e-6, "var(--v-under)"], [place(lo), "var(--v-low)"], [place(0), "var(--v-mid)"], [place(hi), "var(--v-high)"], [place(hi) + 1e-6, "var(--v-over)"], [1, "var(--v-over)"]];
const outside = raw => raw !== NO_VALUE && (raw > hi || raw < lo);
const clip = raw => raw === NO_VALUE ? null : Math.max(z0, Math.min(z1, raw));

// --- the charts that move ---------------------------------------------------------------------------------------------
const WIRES = [[0, 25, 1.6, "--line-1"], [25, 50, 2.6, "--line-2"], [50, 75, 3.6, "--line-2"], [75, 100, 5, "--line-3"], [100, 256, 6.5, "--limit"]];
const homeAt = new Map(); L.members.bus.forEach((bus, k) => { if (bus >= 0 && !homeAt.has(bus)) homeAt.set(bus, k); });
const namesAt = new Map(); L.members.bus.forEach((bus, k) => { if (bus >= 0) namesAt.set(bus, [...(namesAt.get(bus) ?? []), k]); });
const solarAt = bus => (namesAt.get(bus) ?? []).reduce((sum, k) => sum + L.members.pv[k], 0);
const middle = v => (Math.min(...v) + Math.max(...v)) / 2;
const label = (x, y, xs, ys) => { const left = x > middle(xs), low = y < middle(ys); return {x, y, text: esc(L.members.id[S.who]), showarrow: false, xanchor: left ? "right" : "left", xshift: left ? -13 : 13, yshift: low ? 13 : -13, bgcolor: "var(--bg)", opacity: 0.92, borderpad: 1, font: {size: 12, color: "var(--ink)"}}; };
const extremesOf = new Map(); // lowest and highest of every bus in a world and window
function extremes(world) {
  const key = `${world}/${win}`;
  if (!extremesOf.has(key)) {
    const steps = stepsOf(windows[win]), u = voltage[world][win], low = [], high = [];
    for (let i = 0; i < grid.bus.length; i++) { let a = Infinity, b = -Infinity; for (let k = i * steps; k < (i + 1) * steps; k++) if (u[k] !== NO_VALUE) { if (u[k] < a) a = u[k]; if (u[k] > b) b = u[k]; } low.push(a); high.push(b); }
    extremesOf.set(key, [low, high]);
  }
  return extremesOf.get(key);
}
const charts = {
  map() {
    const now = grid.bus.map((_, i) => at(S.run, i)), traces = [], steps = stepsOf(windows[win]), k = column();
    for (const [from, to, width, colour] of WIRES) {
      const x = [], y = [];
      grid.from.forEach((a, l) => { const v = loading[S.run][win][l * steps + k], b = grid.to[l]; if (v !== 255 && v >= from && v < to) { x.push(grid.x[a], grid.x[b], null); y.push(grid.y[a], grid.y[b], null); } });
      traces.push({x, y, mode: "lines", line: {width, color: `var(${colour})`}, hoverinfo: "skip"});
    }
    const size = i => namesAt.has(i) ? (solarAt(i) ? 6 + Math.sqrt(solarAt(i)) * 1.25 : 6.5) : 3.5;
    traces.push({
      x: grid.x, y: grid.y, mode: "markers", customdata: grid.bus.map((_, i) => homeAt.get(i) ?? -1),
      text: grid.bus.map((id, i) => `<b>${esc((namesAt.get(i) ?? []).slice(0, 4).map(m => L.members.id[m]).join(", ") || id)}</b>${namesAt.has(i) ? "<br>" + esc(L.members.text[homeAt.get(i)]) : ""}<br>voltage ${volts(now[i])}`),
      hovertemplate: "%{text}<extra></extra>",
      marker: {opacity: 1, size: grid.bus.map((_, i) => size(i)), color: now.map(clip), cmin: z0, cmax: z1, colorscale: scale, line: {color: now.map(v => outside(v) ? "var(--limit)" : "var(--ink2)"), width: now.map((v, i) => outside(v) ? 2.4 : namesAt.has(i) ? 0.8 : 0.4)}},
    });
    const use = transformer[S.run][win][k], over = use !== 255 && use > L.limits.loading;
    traces.push({x: [grid.x[0]], y: [grid.y[0]], mode: "markers", marker: {symbol: "square", size: over ? 17 : 13, color: over ? "var(--limit)" : "var(--ink)", line: {width: over ? 2 : 0, color: "var(--ink)"}}, hovertemplate: grid.below ? `Transformer${use === 255 ? "" : `, ${use} % used`}<extra></extra>` : "The grid above<extra></extra>"});
    const beside = i => i ? 0 : (Math.max(...grid.x) - Math.min(...grid.x)) * 0.045; // a storage at the busbar stands beside the transformer
    if (S.run === 0 && grid.storage.length) traces.push({x: grid.storage.map(i => grid.x[i] + beside(i)), y: grid.storage.map(i => grid.y[i]), mode: "markers", marker: {symbol: "diamond", size: 16, color: "var(--store)", line: {color: "var(--bg)", width: 1.5}}, hovertemplate: "Shared storage<extra></extra>"});
    const bus = L.members.bus[S.who];
    if (bus >= 0) traces.push({x: [grid.x[bus]], y: [grid.y[bus]], mode: "markers", marker: {symbol: "circle-open", size: 19, color: "var(--ink)", line: {width: 1.6}}, hoverinfo: "skip"});
    const x0 = Math.min(...grid.x), y0 = Math.min(...grid.y), span = Math.max(...grid.x) - x0, height = Math.max(...grid.y) - y0;
    const bar = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].filter(m => m <= Math.max(span, height) / 3).pop(), drop = height * 0.045;
    const marks = bus >= 0 ? [label(grid.x[bus], grid.y[bus], grid.x, grid.y)] : [];
    const ruler = grid.metres && bar ? {shapes: [{type: "line", x0, x1: x0 + bar, y0: y0 - drop, y1: y0 - drop, line: {color: "var(--ink2)", width: 1.5}}], annotations: [...marks, note(`${bar} m`, {x: x0 + bar / 2, y: y0 - drop, yanchor: "top"})]} : {annotations: marks};
    if (now.every(v => v === NO_VALUE)) ruler.annotations.push(note("the power flow has no result at this moment", {xref: "paper", yref: "paper", x: 0.5, y: 0, yanchor: "bottom", font: {size: 13, color: "var(--limit-i)"}}));
    return [traces, layout(500, {margin: {l: 2, r: 2, t: 4, b: 4}, dragmode: "pan", xaxis: {visible: false, ...(grid.metres ? {scaleanchor: "y"} : {})}, yaxis: {visible: false}, ...ruler})];
  },
  profile() {
    const [low, high] = extremes(S.run), bandX = [], bandY = [], wireX = [], wireY = [], now = grid.bus.map((_, i) => at(S.run, i)), y = v => v === NO_VALUE ? null : v / 100;
    grid.bus.forEach((_, i) => { if (Number.isFinite(low[i])) { bandX.push(grid.distance[i], grid.distance[i], null); bandY.push(low[i] / 100, high[i] / 100, null); } });
    grid.from.forEach((a, l) => { const b = grid.to[l]; wireX.push(grid.distance[a], grid.distance[b], null); wireY.push(y(now[a]), y(now[b]), null); });
    const traces = [
      {x: bandX, y: bandY, mode: "lines", line: {width: 5, color: "var(--grid)"}, hoverinfo: "skip"},
      {x: wireX, y: wireY, mode: "lines", line: {width: 1.3, color: "var(--ink2)"}, hoverinfo: "skip"},
      {x: grid.distance, y: now.map(y), mode: "markers", customdata: grid.bus.map((_, i) => homeAt.get(i) ?? -1), text: grid.bus.map((id, i) => esc(namesAt.has(i) ? L.members.id[homeAt.get(i)] : id)), marker: {size: 6.5, opacity: 1, color: now.map(clip), cmin: z0, cmax: z1, colorscale: scale, line: {width: 0.8, color: now.map(v => outside(v) ? "var(--limit)" : "var(--ink2)")}}, hovertemplate: `<b>%{text}</b> %{y:.1f} % at %{x:.0f} ${grid.unit}<extra></extra>`},
    ];
    const bus = L.members.bus[S.who];
    if (bus >= 0 && now[bus] !== NO_VALUE) traces.push({x: [grid.distance[bus]], y: [y(now[bus])], mode: "markers", marker: {symbol: "circle-open", size: 17, color: "var(--ink)", line: {width: 1.6}}, hoverinfo: "skip"});
    const all = voltage.flatMap((_, w) => extremes(w)).flat().filter(Number.isFinite), room = (hi - lo) * 0.09;
    const span = [Math.min(lo, ...all) - room, Math.max(hi, ...all) + room].map(v => v / 100), far = Math.max(...grid.distance, 1);
    const limit = (v, text, anchor) => ({xref: "paper", x: 1, xanchor: "right", y: v / 100, yanchor: anchor, text, showarrow: false, font: {color: "var(--limit-i)", size: 11}});
    return [traces, layout(500, {
      xaxis: axis({ticksuffix: ` ${grid.unit === "m" ? "m" : ""}`, range: [-0.02 * far, 1.1 * far], fixedrange: true, nticks: 6}),
      yaxis: {range: span, gridcolor: "var(--grid)", zeroline: true, zerolinecolor: "var(--axis)", ticksuffix: " %", fixedrange: true},
      shapes: [hi, lo].map(v => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: v / 100, y1: v / 100, line: {color: "var(--limit)", width: 1.4, dash: "dash"}})),
      annotations: [...(bus >= 0 && now[bus] !== NO_VALUE ? [label(grid.distance[bus], y(now[bus]), grid.distance, [hi / 100, lo / 100])] : []), limit(hi, `upper limit ${num(hi / 100, 0, true)} %`, "bottom"), limit(lo, `lower limit ${num(lo / 100, 0, true)} %`, "top")],
    })];
  },
  heat() {
    const steps = stepsOf(windows[win]), u = voltage[S.run][win], rows = grid.order, n = rows.length, z = rows.map(i => Array.from(u.subarray(i * steps, (i + 1) * steps), clip));
    const members = new Map(), lines = [];
    rows.forEach((i, k) => { const f = grid.feeder[i]; members.set(f, [...(members.get(f) ?? []), k]); });
    const named = [...members].filter(([, v]) => v.length >= n * 0.06);
    rows.forEach((i, k) => { if (k > 1 && grid.feeder[i] !== grid.feeder[rows[k - 1]] && (members.get(grid.feeder[i]).length >= n * 0.06 || members.get(grid.feeder[rows[k - 1]]).length >= n * 0.06)) lines.push(k - 0.5); });
    const dead = Array.from({length: steps}, (_, k) => rows.every(i => u[i * steps + k] === NO_VALUE)).flatMap((d, k) => d ? [k] : []);
    const hatch = dead.map(k => { const x = windows[win].start + (k - 0.5) * block; return {x: [x, x + block, x + block, x, x], y: [-0.5, -0.5, n - 0.5, n - 0.5, -0.5], mode: "lines", line: {width: 0}, fill: "toself", fillpattern: {shape: "/", fgcolor: "var(--limit)", bgcolor: "var(--bg)", size: 5, fillmode: "replace"}, hoverinfo: "skip"}; });
    return [[{type: "heatmap", x0: windows[win].start, dx: block, z, zmin: z0, zmax: z1, colorscale: scale, showscale: false, name: "Voltage", customdata: rows.map(i => Array(steps).fill(i)), hoverinfo: "none"}, ...hatch],
      layout(300, {xaxis: axis({type: "linear", range: shown ?? windowRange()}), yaxis: {tickvals: named.map(([, v]) => v[v.length >> 1]), ticktext: named.map(([f]) => narrow() ? `F${f + 1}` : `Feeder ${f + 1}`), ticks: "", fixedrange: true, showgrid: false, zeroline: false, range: [n - 0.5, -0.5]},
        margin: {l: narrow() ? 30 : 66, r: 14, t: 6, b: 30}, shapes: lines.map(y => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: {color: "var(--bg)", width: 1.5}}))})];
  },
  envelope() {
    const row = moving.envelope_members.indexOf(L.members.id[S.who]), steps = stepsOf(windows[win]), x = windowX(), data = envelope[win];
    const slice = name => row < 0 ? [] : Array.from(data[name].subarray(row * steps, (row + 1) * steps), v => v === NO_VALUE ? null : v === NO_LIMIT ? Infinity : v / 100);
    const up = slice("import"), down = slice("export"), meter = slice("meter"), wanted = slice("wanted");
    const has = up.some(v => v !== null), peak = Math.max(1, ...meter.map(Math.abs), ...wanted.map(Math.abs)) * 1.25;
    const span = [-Math.max(peak, 1), Math.max(peak, 1)];
    const say = row < 0 ? `${L.members.id[S.who]} is not among the members whose envelope is carried here.` : has ? "" : `${L.members.id[S.who]} has no envelope: it is served as it is.`;
    const line = (name, y, o) => ({x, y, mode: "lines", name, ...o});
    const clipped = (values, sign) => values.map(v => v === null ? null : sign * Math.min(v, peak));
    const traces = [];
    if (has) {
      traces.push(line("Allowed import, up to", clipped(up, 1), {line: {width: 1, color: "var(--peer)", shape: "hv"}, fill: "tozeroy", fillcolor: "var(--peer-t)", customdata: up.map(v => v === Infinity ? null : v)}));
      traces.push(line("Allowed export, up to", clipped(down, -1), {line: {width: 1, color: "var(--peer)", shape: "hv"}, fill: "tozeroy", fillcolor: "var(--peer-t)", customdata: down.map(v => v === Infinity ? null : v)}));
      // the forbidden part lies between the meter and the wish; a closed outline per stretch, so that no fill bridges a gap
      const fx = [], fy = [];
      for (let k = 0; k < steps; k++) if (wanted[k] !== null && Math.abs(wanted[k] - meter[k]) > 0.005) {
        let e = k; while (e + 1 < steps && wanted[e + 1] !== null && Math.abs(wanted[e + 1] - meter[e + 1]) > 0.005) e++;
        for (let j = k; j <= e; j++) { fx.push(x[j], x[j] + block); fy.push(wanted[j], wanted[j]); }
        for (let j = e; j >= k; j--) { fx.push(x[j] + block, x[j]); fy.push(meter[j], meter[j]); }
        fx.push(null); fy.push(null); k = e;
      }
      if (fx.length) traces.push({x: fx, y: fy, mode: "lines", line: {width: 0.8, color: "var(--limit)"}, fill: "toself", fillcolor: "var(--limit)", hoverinfo: "skip", meta: "forbidden"});
    }
    if (row >= 0) traces.push(line("At the meter", meter, {line: {width: 1.5, color: "var(--ink)", shape: "hv"}}), line("Wanted", wanted, {line: {width: 0, color: "var(--limit)"}, opacity: 0}));
    return [traces, layout(270, {hovermode: "x", meta: {unit: "kW"}, xaxis: axis({type: "linear", range: shown ?? windowRange()}), yaxis: {range: span, gridcolor: "var(--grid)", zeroline: true, zerolinecolor: "var(--ink)", fixedrange: true, nticks: 6},
      annotations: [...(say ? [note(broken(say, narrow() ? 28 : 90), {xref: "paper", yref: "paper", x: 0.5, y: 1, yanchor: "top", yshift: -20, bgcolor: "var(--bg)", font: {size: 13, color: "var(--ink)"}})] : []),
        note("import ↑", {xref: "paper", yref: "paper", x: 0, y: 1, xanchor: "left", yanchor: "top", xshift: 6}), note("export ↓", {xref: "paper", yref: "paper", x: 0, y: 0, xanchor: "left", yanchor: "bottom", xshift: 6})]})];
  },
  residuals() {
    const id = L.clearings.id[clearing], tolerance = L.tolerance?.[L.clearings.stage[clearing]], history = L.clearings.history[id] ?? [], x = history.map(r => r[0]);
    const line = (name, k, o) => ({x, y: history.map(r => r[k]), name, mode: "lines+markers", marker: {size: 5}, ...o, hovertemplate: `${name} %{y:.1e} after %{x} iterations<extra></extra>`});
    return [[line("primal residual", 1, {line: {color: "var(--peer)", width: 1.8}}), line("dual residual", 2, {line: {color: "var(--ink2)", width: 1.6, dash: "dot"}, marker: {size: 5, symbol: "square"}})],
      layout(190, {xaxis: axis({fixedrange: true, rangemode: "tozero", nticks: 6}), yaxis: {type: "log", gridcolor: "var(--grid)", exponentformat: "power", dtick: 1, fixedrange: true}, margin: {l: 46, r: 14, t: 8, b: 30},
        shapes: tolerance ? [{type: "line", xref: "paper", x0: 0, x1: 1, y0: tolerance, y1: tolerance, line: {color: "var(--limit)", width: 1.2, dash: "dash"}}] : [],
        annotations: history.length ? (tolerance ? [note("tolerance", {xref: "paper", x: 1, xanchor: "right", y: Math.log10(tolerance), yanchor: "bottom", font: {size: 11, color: "var(--limit-i)"}})] : []) : [note("The history of this clearing is not carried here.", {xref: "paper", yref: "paper", x: 0.5, y: 0.5})]})];
  },
};
let clearing = L.clearings ? L.clearings.start : 0;

// --- drawing: only what is near the screen -------------------------------------------------------------------------------
const CONFIG = {displayModeBar: false, responsive: true, doubleClick: "reset"};
const drawn = new Set();
const isTime = el => el.hasAttribute("data-time");
const spec = el => { if (el.dataset.live) return charts[el.dataset.live](); const f = structuredClone(figures[el.dataset.fig]); return [f.data, f.layout]; };
function fit(el, f) {
  f.width = printing ? PAPER : el.clientWidth;
  if (narrow()) {
    const m = f.margin ?? {};
    f.margin = {...m, l: Math.min(m.l ?? 46, el.hasAttribute("data-names") ? 132 : 36), r: Math.min(m.r ?? 14, el.hasAttribute("data-names") ? 30 : 8)};
    f.font = {...f.font, size: 11};
    for (const a of f.annotations ?? []) if (a.xref === "paper" && a.x > 1) { a.x = 1; a.xanchor = "right"; a.yanchor = "bottom"; a.bgcolor = "var(--bg)"; }
  }
  if (isTime(el)) {
    const range = shown ?? (el.dataset.live ? windowRange() : f.xaxis.range);
    f.xaxis = {...f.xaxis, range, fixedrange: false, ...timeTicks(range[0], range[1], el.clientWidth - 60)};
  }
  return f;
}
async function draw(el) {
  const [data, f] = spec(el);
  if (isTime(el)) for (const trace of data) { delete trace.hovertemplate; if (trace.hoverinfo !== "skip") trace.hoverinfo = "none"; }
  el.classList.remove("wait");
  await Plotly.react(el, paint(data), paint(fit(el, f)), CONFIG);
  if (!drawn.has(el)) { drawn.add(el); hook(el); }
  if (el.hasAttribute("data-who")) mark(el);
  cursor(el);
}
function mark(el) { // outline the chosen member
  const id = L.members.id[S.who];
  el.data.forEach((trace, k) => {
    if (!Array.isArray(trace.customdata) || !(trace.type === "bar" || trace.mode === "markers")) return;
    const hit = trace.customdata.map(name => name === id), bar = trace.type === "bar";
    const change = {"marker.line.width": [hit.map(h => h ? 2.2 : bar ? 0 : 0.5)], "marker.line.color": [hit.map(h => h ? V("--ink") : V("--bg"))]};
    if (!bar) change["marker.size"] = [hit.map(h => h ? 14 : 7)];
    Plotly.restyle(el, change, [k]);
  });
}
function overlay(el, name) { let e = $(`.${name}`, el); if (!e) { e = element("div", undefined, name); el.append(e); } return e; }
function cursor(el) {
  if (!isTime(el) || !el._fullLayout) return;
  const line = overlay(el, "cursor"), {xaxis: x, yaxis: y} = el._fullLayout, px = x.d2p(S.t);
  line.style.display = px < -1 || px > x._length + 1 ? "none" : "block";
  line.style.left = `${x._offset + px}px`; line.style.top = `${y._offset}px`; line.style.height = `${y._length}px`;
}
function tip(el, event) { // own hover box: local time and true minus signs, which plotly's box cannot show on this axis
  const box = overlay(el, "tip"), points = event.points.filter(p => p.data.name && p.data.meta !== "forbidden"), first = event.points[0];
  box.replaceChildren(element("b", moment(Math.round(first.x))));
  for (const p of points) {
    const row = element("span"), heat = p.data.type === "heatmap", value = heat ? p.z : typeof p.customdata === "number" ? p.customdata : p.y;
    if (value === null || value === undefined) continue;
    row.style.setProperty("--c", heat ? "transparent" : p.fullData.fillcolor && p.fullData.stackgroup ? p.fullData.fillcolor : p.fullData.line?.color ?? p.fullData.marker?.color);
    row.append(element("em", heat ? grid.bus[p.customdata] : p.data.name), element("span", heat ? volts(value) : `${num(value, Math.abs(value) < 9.95 ? 1 : 0)}\u00a0${el.layout.meta?.unit ?? ""}`));
    box.append(row);
  }
  box.style.display = "block";
  const {xaxis: x, yaxis: y} = el._fullLayout, px = x._offset + x.d2p(first.x), side = px > el.clientWidth / 2;
  box.style.left = side ? "auto" : `${px + 12}px`; box.style.right = side ? `${el.clientWidth - px + 12}px` : "auto"; box.style.top = `${y._offset + 6}px`;
}
let syncing = false;
function hook(el) {
  el.on("plotly_click", event => {
    const p = event.points[0], name = Array.isArray(p.customdata) ? p.customdata[0] : p.customdata;
    if (el.hasAttribute("data-who")) { const k = L.members.id.indexOf(name); if (k >= 0) setWho(k); }
    else if (["map", "profile"].includes(el.dataset.live)) { if (p.customdata >= 0) setWho(p.customdata); }
    else if (el.dataset.fig === "clearings") setClearing(L.clearings.id.indexOf(name));
    else if (isTime(el)) setT(Math.round(p.x));
  });
  if (!isTime(el)) return;
  el.on("plotly_hover", event => tip(el, event));
  el.on("plotly_unhover", () => { overlay(el, "tip").style.display = "none"; });
  el.on("plotly_relayout", async event => {
    if (syncing) return;
    const reset = event["xaxis.autorange"] || event["xaxis.range"]?.length === 0;
    if (!reset && event["xaxis.range[0]"] === undefined) return;
    shown = reset ? null : [Math.max(0, event["xaxis.range[0]"]), Math.min(C.steps - 1, event["xaxis.range[1]"])];
    syncing = true;
    await Promise.all([...drawn].filter(isTime).map(draw));
    syncing = false;
  });
}

// --- setting moment, run, member, clearing -----------------------------------------------------------------------------
const liveChart = name => $(`[data-live=${name}]`);
const redraw = async names => { for (const name of names) { const el = liveChart(name); if (el && drawn.has(el)) await draw(el); } };
let busy = false, again = false;
async function setT(t) {
  S.t = Math.max(0, Math.min(C.steps - 1, t));
  const other = windows.length > 1 ? windowOf(S.t) : 0, moved = other !== win;
  if (windows.length > 1 && windows[other].start <= S.t && S.t < windows[other].start + windows[other].steps) win = other;
  $$("[data-when]").forEach(e => { e.textContent = moment(S.t); });
  drawn.forEach(cursor);
  save();
  if (!grid) return;
  const slider = $("#slider");
  slider.min = windows[win].start; slider.max = windows[win].start + windows[win].steps - 1; slider.value = S.t; slider.setAttribute("aria-valuetext", moment(S.t));
  let low = Infinity, high = -Infinity;
  grid.bus.forEach((_, i) => { const v = at(S.run, i); if (v !== NO_VALUE) { low = Math.min(low, v); high = Math.max(high, v); } });
  const use = transformer[S.run][win][column()];
  $("#now").textContent = Number.isFinite(low) ? `voltage ${num(low / 100, 1, true)} to ${num(high / 100, 1, true)}\u00a0%${use === 255 ? "" : `, transformer ${use}\u00a0%`}` : "no power flow";
  $("#now").classList.toggle("bad", use !== 255 && use > L.limits.loading || high > hi || low < lo);
  if (moved) { spark(); await redraw(["heat", "envelope"]); $$("[data-window]").forEach(b => b.setAttribute("aria-pressed", String(+b.dataset.window === win))); }
  if (busy) { again = true; return; } // one redraw at a time; the newest moment wins
  busy = true;
  do { again = false; await redraw(["map", "profile"]); } while (again);
  busy = false;
}
async function setRun(run) {
  S.run = run;
  $$("[data-run]").forEach(b => b.setAttribute("aria-pressed", String(+b.dataset.run === run)));
  save();
  if (grid) { spark(); await redraw(["heat"]); }
  await setT(S.t);
}
async function setWho(who) {
  S.who = who;
  save();
  const select = $("#who"); if (select) select.value = String(who);
  showBill();
  const title = $("#envelope-title"); if (title) title.textContent = `What ${L.members.id[who]} was allowed, and what it did`;
  for (const el of drawn) if (el.hasAttribute("data-who")) mark(el);
  await redraw(["envelope", "map", "profile"]);
}
async function setClearing(k) {
  if (k < 0) return;
  clearing = k;
  const c = L.clearings;
  $("#clearing").textContent = `${c.stage[k] === "day_ahead" ? "Day ahead" : "Intraday"}, ${moment(Math.floor(c.slot[k]))}: ${c.converged[k] ? "converged" : "did not converge"} after ${num(c.iterations[k])} iterations${c.above[k] === null ? "" : `, at most ${cash(Math.max(c.above[k], 0))}\u00a0${L.currency} above the best possible`}`;
  await redraw(["residuals"]);
}

// --- bill ----------------------------------------------------------------------------------------------------------------
const nothing = v => Math.abs(v) < 0.005;
function because(k, gain) { // the change by what it is about; the parts add up to it
  const words = [], lost = L.members.curtailed_kwh[k], parts = new Map();
  if (gain < -0.005 && lost > 0.5) words.push(["Envelopes held back ", 0], [`${num(lost)} kWh`, 1], [" of its solar energy. ", 0]);
  L.bill.groups.forEach((group, j) => parts.set(group, (parts.get(group) ?? 0) + L.bill.run[j][k] - L.bill.reference[j][k]));
  const told = [...parts].filter(([, change]) => !nothing(change)).sort((p, q) => Math.abs(q[1]) - Math.abs(p[1]));
  told.forEach(([group, change], j) => words.push([j ? "; " : "Change: ", 0], [group, 1], [` ${cash(change, true)} ${L.currency}`, 0]));
  if (told.length) words.push([".", 0]);
  return words;
}
function showBill() {
  const box = $("#bill");
  if (!box) return;
  const k = S.who, lines = L.bill.lines.map((name, j) => [name, L.bill.reference[j][k], L.bill.run[j][k]]).filter(r => !nothing(r[1]) || !nothing(r[2]));
  const ref = L.bill.total_reference[k], now = L.bill.total[k], gain = ref - now, p = element("p", undefined, "because");
  for (const [text, strong] of because(k, gain)) p.append(strong ? element("b", text) : text);
  const table = element("table"), row = (cells, tag = "td", name) => { const tr = element("tr", undefined, name); cells.forEach((c, j) => tr.append(element(tag, c, j ? "n" : undefined))); table.append(tr); };
  row([`${L.currency} in ${L.this}`, "Reference", "With sharing"], "th");
  for (const [name, a, b] of lines) row([name, nothing(a) ? "–" : cash(a), nothing(b) ? "–" : cash(b)]);
  row(["To pay", cash(ref), cash(now)], "td", "sum");
  const said = nothing(gain) ? "pays the same" : gain > 0 ? `saves ${cash(gain)} ${L.currency}` : `pays ${cash(-gain)} ${L.currency} more`;
  const share = L.members.curtailed_percent[k];
  box.replaceChildren(element("h3", `${L.members.id[k]} ${said}`), element("p", L.members.text[k] + (share > 0.05 ? ` · ${percent(share)} curtailed` : ""), "who"), p, table);
}

// --- player --------------------------------------------------------------------------------------------------------------
const SVG = "http://www.w3.org/2000/svg";
const shape = (tag, o) => { const e = document.createElementNS(SVG, tag); for (const [k, v] of Object.entries(o)) e.setAttribute(k, v); return e; };
function spark() {
  const svg = $("#player svg"), w = windows[win], y = L.source[S.run][win], top = L.source.flat(2).reduce((a, v) => Math.max(a, Math.abs(v ?? 0)), 1e-9);
  svg.setAttribute("viewBox", `0 0 ${w.steps} 38`);
  const points = y.map((v, i) => `${i},${(19 - (v ?? 0) / top * 17).toFixed(1)}`).join(" ");
  svg.replaceChildren(shape("line", {x1: 0, x2: w.steps, y1: 19, y2: 19, stroke: "var(--axis)", "vector-effect": "non-scaling-stroke"}), shape("polygon", {points: `0,19 ${points} ${w.steps},19`, fill: "var(--feed)"}));
  for (const t of L.outside[S.run]) if (t >= w.start && t < w.start + w.steps) svg.append(shape("rect", {x: t - w.start, y: 0, width: Math.max(1, w.steps / 400), height: 38, fill: "var(--limit)"}));
}
let timer = 0;
const stop = () => { clearInterval(timer); timer = 0; $("#play").textContent = "▶"; $("#play").setAttribute("aria-label", "Play"); };
function play() {
  if (timer) return stop();
  $("#play").textContent = "❚❚"; $("#play").setAttribute("aria-label", "Pause");
  timer = setInterval(() => S.t >= windows[win].start + windows[win].steps - 1 ? stop() : setT(S.t + block), 90);
}

// --- tables under the charts: the numbers that are drawn, as CSV -----------------------------------------------------------
function csvOf(name) {
  const el = $(`[data-fig="${name}"]`), [data] = spec(el), cell = v => v === null || v === undefined ? "" : /[",\n]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v);
  const traces = data.filter(t => t.name || t.customdata || t.type === "bar" || t.type === "waterfall"), xs = t => t.x ?? t.y.map((_, i) => (t.x0 ?? 0) + i * (t.dx ?? 1));
  const time = isTime(el), head = ["series", time ? "time" : "x", "value", "name"];
  const rows = traces.flatMap(t => xs(t).map((x, i) => [t.name ?? "", time ? local(x).toISOString().slice(0, 16).replace("T", " ") : x, (Array.isArray(t.customdata) && typeof t.customdata[i] === "number" ? t.customdata : t.y)?.[i], typeof t.customdata?.[i] === "string" ? t.customdata[i] : ""]));
  return [head, ...rows].map(r => r.map(cell).join(",")).join("\r\n");
}

// --- wiring ----------------------------------------------------------------------------------------------------------------
const select = $("#who");
if (select) {
  for (const k of L.order) { const o = element("option", `${L.members.id[k]} · ${L.members.text[k]}`); o.value = String(k); select.append(o); }
  select.onchange = () => setWho(+select.value);
  const search = $("#find");
  if (search) for (const id of L.members.id) { const o = element("option"); o.value = id; $("#names").append(o); }
  if (search) search.onchange = () => { const k = L.members.id.indexOf(search.value.trim()); if (k >= 0) setWho(k); };
}
$$("[data-pick]").forEach(b => { b.onclick = () => setWho(L.order[{best: 0, median: L.order.length >> 1, worst: L.order.length - 1}[b.dataset.pick]]); });
$$("[data-run]").forEach(b => { b.onclick = () => setRun(+b.dataset.run); });
$$("[data-window]").forEach(b => { b.onclick = () => { shown = null; setT(windows[+b.dataset.window].start + (windows[+b.dataset.window].steps >> 1)); }; });
$$("[data-csv]").forEach(a => { a.onclick = () => { a.href = "data:text/csv;charset=utf-8," + encodeURIComponent(csvOf(a.dataset.csv)); }; });
if (grid) { $("#slider").oninput = event => setT(+event.target.value); $("#play").onclick = play; }
const repaint = () => { style = getComputedStyle(document.documentElement); known = {}; };
const retheme = () => { repaint(); return Promise.all([...drawn].map(draw)); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
const dark = () => document.documentElement.dataset.theme === "dark" || (document.documentElement.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
$("#theme").onclick = () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; retheme(); };
let theme; // paper is light, one column wide, and has all charts, not only those that somebody scrolled to
addEventListener("beforeprint", () => { theme ??= document.documentElement.dataset.theme; document.documentElement.dataset.theme = "light"; printing = true; repaint(); all(); });
addEventListener("afterprint", () => { document.documentElement.dataset.theme = theme ?? "auto"; theme = undefined; printing = false; retheme(); });
addEventListener("hashchange", () => { read(); setRun(S.run); setWho(S.who); });
let resize;
addEventListener("resize", () => { clearTimeout(resize); resize = setTimeout(() => drawn.forEach(el => { if (!printing && el.clientWidth && Math.abs(el.clientWidth - el._fullLayout.width) > 1) draw(el); }), 120); });
const near = new IntersectionObserver(entries => entries.forEach(e => { if (e.isIntersecting) { near.unobserve(e.target); draw(e.target); } }), {rootMargin: "500px"});
const all = () => Promise.all($$(".chart").map(el => { near.unobserve(el); return draw(el); }));
const rail = new IntersectionObserver(entries => entries.forEach(e => { if (e.isIntersecting) $$("nav a").forEach(a => a.classList.toggle("on", a.hash === `#${e.target.id}`)); }), {rootMargin: "-20% 0px -70% 0px"});
$$("section").forEach(s => rail.observe(s));
if (grid) new IntersectionObserver(entries => entries.forEach(e => $("#player").classList.toggle("show", e.isIntersecting)), {rootMargin: "-30% 0px -10% 0px"}).observe($("#grid"));
win = windowOf(S.t);
if (grid) spark();
await setRun(S.run);
await setWho(S.who);
if (L.clearings) await setClearing(clearing);
$$(".chart").forEach(el => { el.classList.add("wait"); near.observe(el); });
window.commonwatt = {S, setT, setRun, setWho, setClearing, all, drawn, data: L, voltage, ready: performance.now() - began};
})();
