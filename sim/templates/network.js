// The moving part of a page about a network: unpacks plotly and the figures, draws them in the theme of the reader, again when
// theme or width change, and light and one column wide on paper.
(async () => {
"use strict";
const $ = query => document.querySelector(query), $$ = query => [...document.querySelectorAll(query)];
if (!("DecompressionStream" in window)) { $("#old").hidden = false; return; }
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const unzip = async id => new Response(new Blob([bytes($(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
const [library, data] = await Promise.all([unzip("#library"), unzip("#data")]);
const script = document.createElement("script");
script.textContent = library;
document.head.append(script);
const figures = JSON.parse(data);

let style = getComputedStyle(document.documentElement);
const paint = o => {
  if (typeof o === "string") return o.startsWith("var(") ? style.getPropertyValue(o.slice(4, -1)).trim() : o;
  if (Array.isArray(o)) return typeof o[0] === "number" && typeof o[1] !== "string" ? o : o.map(paint);
  if (o && typeof o === "object") return Object.fromEntries(Object.entries(o).map(([k, v]) => [k, paint(v)]));
  return o;
};
const PAPER = 680; // A4 less its margins, in CSS pixels
let printing = false;
const draw = el => {
  const given = figures[el.dataset.fig], layout = structuredClone(given.layout);
  layout.width = printing ? PAPER : el.clientWidth;
  if (innerWidth < 640) {
    layout.font = {...layout.font, size: 11};
    layout.margin = {...layout.margin, l: Math.min(layout.margin.l, 112), r: 8};
  }
  return Plotly.react(el, paint(structuredClone(given.data)), paint(layout), {displayModeBar: false, responsive: false});
};
const all = () => Promise.all($$(".chart").map(draw));
const retheme = () => { style = getComputedStyle(document.documentElement); return all(); };
const root = document.documentElement;
const dark = () => root.dataset.theme === "dark" || (root.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
$("#theme").onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; retheme(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
let theme, resize;
addEventListener("beforeprint", () => { theme ??= root.dataset.theme; root.dataset.theme = "light"; printing = true; retheme(); });
addEventListener("afterprint", () => { root.dataset.theme = theme ?? "auto"; theme = undefined; printing = false; retheme(); });
addEventListener("resize", () => { clearTimeout(resize); resize = setTimeout(() => { if (!printing) all(); }, 120); });
const rail = new IntersectionObserver(seen => seen.forEach(e => { if (e.isIntersecting) $$("nav a").forEach(a => a.classList.toggle("on", a.hash === `#${e.target.id}`)); }), {rootMargin: "-20% 0px -70% 0px"});
$$("section").forEach(section => rail.observe(section));
await all();
window.commonwatt = {figures, all, ready: true};
})();
