"""The look of the report: one style sheet and the few lines of script that read values off a chart."""

STYLE = """
:root{color-scheme:light dark;
--page:#f7f7f4;--card:#fff;--ink:#1d2025;--soft:#5d636d;--faint:#8d939c;--rule:#e4e4df;--grid:#ededE8;
--c0:#2f6db5;--c1:#d9741f;--c2:#2a9078;--c3:#a34f93;--c4:#b8901c;--c5:#c64b4b;--c6:#5f6fd0;--c7:#6f8a3a;
--good:#2a9078;--shadow:0 1px 2px rgba(20,24,32,.05),0 4px 16px rgba(20,24,32,.04)}
@media (prefers-color-scheme:dark){:root{
--page:#121417;--card:#1a1d22;--ink:#e7e8e6;--soft:#a4aab3;--faint:#7b828c;--rule:#2b2f36;--grid:#262a30;
--c0:#6ba5e8;--c1:#f09a52;--c2:#4fc2a5;--c3:#d386c4;--c4:#dfbb53;--c5:#ee8080;--c6:#9aa5f5;--c7:#a8c46c;
--good:#4fc2a5;--shadow:none}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1160px;margin:0 auto;padding:44px 28px 72px}
h1{font-size:32px;line-height:1.15;letter-spacing:-.02em;margin:0 0 6px;font-weight:650;
overflow-wrap:anywhere}
h2{font-size:26px;letter-spacing:-.015em;margin:0;font-weight:640}
h3{font-size:19px;letter-spacing:-.01em;margin:0;font-weight:640}
h4{font-size:15px;margin:0;font-weight:620}
p{margin:0}
a{color:inherit;text-decoration-color:var(--faint);text-underline-offset:3px}
code{font:12px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;color:var(--faint)}
.lead{color:var(--soft);max-width:76ch}
header .eyebrow{color:var(--faint);font-size:13px;margin-bottom:8px}
.facts{display:flex;flex-wrap:wrap;gap:4px 22px;color:var(--soft);font-size:14px;margin-top:14px}
.facts b{font-weight:600;color:var(--ink)}
nav{display:flex;flex-wrap:wrap;gap:6px;margin:22px 0 0;font-size:13.5px}
nav a{padding:4px 12px;border:1px solid var(--rule);border-radius:99px;text-decoration:none;color:var(--soft);
background:var(--card);white-space:nowrap}
nav a:hover{color:var(--ink);border-color:var(--faint)}
section{margin-top:44px}
section>.lead{margin-top:4px}
.run{margin-top:72px;padding-top:36px;border-top:1px solid var(--rule)}
.run .eyebrow{color:var(--faint);font-size:13px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,204px),1fr));gap:14px;margin-top:26px}
.card,figure{background:var(--card);border:1px solid var(--rule);border-radius:12px;box-shadow:var(--shadow)}
.card{padding:15px 17px 14px;display:flex;flex-direction:column;min-height:112px}
.card .name{font-size:13.5px;color:var(--soft);line-height:1.35}
.card .value{font-size:27px;font-weight:640;letter-spacing:-.02em;margin-top:2px;line-height:1.25}
.card .value small{font-size:15px;font-weight:500;color:var(--soft);letter-spacing:0}
.card .from{font-size:12.5px;color:var(--faint);line-height:1.4;overflow-wrap:anywhere;margin-bottom:8px}
.card .trend{position:relative;height:26px;margin-top:auto;padding-top:0}
.spark{width:100%;height:26px;display:block;overflow:visible}
.spark polyline{fill:none;stroke:var(--c0);stroke-width:1.6;
vector-effect:non-scaling-stroke;stroke-linejoin:round}
.spark-end{position:absolute;width:6px;height:6px;margin:-3px 0 0 -3px;border-radius:50%;background:var(--c0)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,332px),1fr));gap:0 16px;
margin-top:18px}
figure{margin:0 0 16px;padding:16px 16px 14px;min-width:0;position:relative;
display:grid;grid-row:span 6;grid-template-rows:subgrid;grid-template-columns:minmax(0,1fr)}
figure code{display:block;overflow-wrap:anywhere;margin-top:1px}
figure .read{font-size:13.5px;line-height:1.45;color:var(--soft);margin-top:8px}
figure .note{font-size:12.5px;color:var(--faint);margin-top:4px}
.legend{list-style:none;margin:8px 0 8px;padding:0;display:flex;flex-wrap:wrap;gap:1px 14px;font-size:12.5px;
color:var(--soft);line-height:1.55}
.legend li{overflow-wrap:anywhere}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;background:var(--c);margin-right:6px;
vertical-align:middle}
.legend i[style*="--d"]{background:repeating-linear-gradient(90deg,var(--c) 0 4px,transparent 4px 6px)}
.legend b{font-weight:600;color:var(--ink)}
.chart{display:block;width:100%;height:auto;overflow:visible;touch-action:pan-y}
.chart text{font-family:inherit;font-size:11.5px;fill:var(--faint)}
.chart .unit{font-size:11.5px}
.chart .grid{stroke:var(--grid);stroke-width:1}
.chart .base{stroke:var(--faint);stroke-width:1;opacity:.55}
.line polyline{fill:none;stroke:var(--c);stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round;
stroke-dasharray:var(--d,none)}
.line polygon{fill:var(--c);opacity:.15}
.line circle{fill:var(--c);stroke:var(--card);stroke-width:1.4}
.cursor{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 2}
.tip{position:absolute;pointer-events:none;background:var(--ink);color:var(--page);font-size:12px;line-height:1.45;
padding:5px 9px;border-radius:7px;white-space:nowrap;z-index:2;transform:translate(-50%,-100%)}
figure.wide{grid-column:1/-1;display:block;grid-row:auto}
.filters{display:grid;grid-template-columns:repeat(auto-fill,minmax(46px,1fr));gap:7px;margin-top:14px}
.filters img{width:100%;aspect-ratio:1;object-fit:contain;image-rendering:pixelated;border-radius:4px;
background:var(--page);display:block}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:right;padding:8px 10px;border-top:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;min-width:150px}
th:last-child,td:last-child{padding-right:0}
thead th{border:0;color:var(--faint);font-weight:500;font-size:13px}
td .was{color:var(--faint);font-size:13px}
tbody th{font-weight:500}
.bars{display:grid;grid-template-columns:auto 1fr auto;gap:9px 14px;align-items:center;font-size:14px;
margin-top:14px}
.bars .bar{height:9px;border-radius:5px;background:var(--grid);overflow:hidden}
.bars .bar i{display:block;height:100%;background:var(--c0);border-radius:5px;min-width:2px}
.bars .amount{text-align:right;color:var(--soft)}
details{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:12px 16px;
margin-top:14px}
summary{cursor:pointer;font-weight:600;font-size:15px}
pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-x:auto;margin:12px 0 2px;
color:var(--soft)}
.missing{margin:12px 0 0;padding-left:18px;color:var(--soft);font-size:14.5px}
.missing li{margin-top:4px}
footer{margin-top:64px;color:var(--faint);font-size:13px}
@media (max-width:620px){main{padding:26px 16px 56px}h1{font-size:26px}h2{font-size:22px}
.cards{grid-template-columns:1fr 1fr;gap:10px}.card{padding:12px 13px}.card .value{font-size:22px}
nav{flex-wrap:nowrap;overflow-x:auto;margin-right:-16px;padding-right:16px;scrollbar-width:none}
section{margin-top:36px}.bars{gap:8px 10px}
figure{padding:14px 12px 12px}table,thead th{font-size:12px}td .was{display:block;font-size:10.5px}
th,td{padding:7px 4px}
th:first-child,td:first-child{min-width:0}}
@media print{body{background:#fff}figure,.card{break-inside:avoid;box-shadow:none}nav{display:none}}
""".strip()

SCRIPT = """
for (const svg of document.querySelectorAll('svg.chart')) {
  const [x0, x1] = svg.dataset.x.split(' ').map(Number);
  const [y0, y1, log] = svg.dataset.y.split(' ').map(Number);
  const [left, right, top, bottom] = svg.dataset.frame.split(' ').map(Number);
  const lines = [...svg.querySelectorAll('.line')].map(g => ({
    name: g.dataset.label,
    points: g.querySelector('polyline').getAttribute('points').split(' ').map(p => p.split(',').map(Number)),
  }));
  const cursor = document.createElementNS('http://www.w3.org/2000/svg', 'line');
  cursor.setAttribute('class', 'cursor');
  cursor.setAttribute('y1', top);
  cursor.setAttribute('y2', bottom);
  const tip = document.createElement('div');
  tip.className = 'tip';
  const isShare = svg.dataset.unit === '%';
  const written = v => isShare ? (100 * v).toFixed(1) + ' %' : String(Number(v.toPrecision(3)));
  const value = y => {
    const place = y0 + (bottom - y) / (bottom - top) * (y1 - y0);
    return written(log ? 10 ** place : place);
  };
  const show = event => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const nearest = lines.map(line =>
      line.points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
    const x = nearest.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a)[0];
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    svg.append(cursor);
    tip.replaceChildren();
    tip.append(svg.dataset.name + ' ' + Math.round(x0 + (x - left) / (right - left) * (x1 - x0)));
    lines.slice(0, 10).forEach((line, i) => {
      if (Math.abs(nearest[i][0] - x) > 3) return;
      tip.append(document.createElement('br'), line.name + ' ' + value(nearest[i][1]));
    });
    const home = svg.parentElement.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    svg.parentElement.append(tip);
    const half = tip.offsetWidth / 2;
    const wanted = box.left - home.left + x * scale;
    tip.style.left = Math.min(home.width - half - 4, Math.max(half + 4, wanted)) + 'px';
    tip.style.top = box.top - home.top + top * scale - 6 + 'px';
  };
  svg.addEventListener('pointermove', show);
  svg.addEventListener('pointerdown', show);
  svg.addEventListener('pointerleave', () => { cursor.remove(); tip.remove(); });
}
""".strip()
