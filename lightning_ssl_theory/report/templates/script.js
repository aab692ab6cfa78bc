for (const svg of document.querySelectorAll('svg.chart')) {
  const [x0, x1] = svg.dataset.x.split(' ').map(Number);
  const [y0, y1, log] = svg.dataset.y.split(' ').map(Number);
  const [left, right, top, bottom] = svg.dataset.frame.split(' ').map(Number);
  const home = svg.parentElement;
  const lines = [...svg.querySelectorAll('.line')].map(group => ({
    group,
    name: group.dataset.label,
    points: group.querySelector('polyline').getAttribute('points').split(' ').map(p => p.split(',').map(Number)),
  }));
  for (const button of home.querySelectorAll('.legend button')) {
    button.addEventListener('click', () => {
      const isOff = lines[button.dataset.line].group.classList.toggle('off');
      button.setAttribute('aria-pressed', String(!isOff));
    });
  }
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
    const shown = lines.filter(line => !line.group.classList.contains('off'));
    if (!shown.length) return hide();
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const nearer = (a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a;
    const nearest = shown.map(line => line.points.reduce(nearer));
    const x = nearest.reduce(nearer)[0];
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    svg.append(cursor);
    const step = Math.round(x0 + (x - left) / (right - left) * (x1 - x0));
    tip.replaceChildren(svg.dataset.name + ' ' + step.toLocaleString('en'));
    shown.slice(0, 10).forEach((line, i) => {
      if (Math.abs(nearest[i][0] - x) > 3) return;
      tip.append(document.createElement('br'), line.name + ' ' + value(nearest[i][1]));
    });
    home.append(tip);
    const frame = home.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const half = tip.offsetWidth / 2;
    const wanted = box.left - frame.left + x * scale;
    tip.style.left = Math.min(frame.width - half - 4, Math.max(half + 4, wanted)) + 'px';
    tip.style.top = box.top - frame.top + top * scale - 6 + 'px';
  };
  const hide = () => { cursor.remove(); tip.remove(); };
  svg.addEventListener('pointermove', show);
  svg.addEventListener('pointerdown', show);
  svg.addEventListener('pointerleave', hide);
}
