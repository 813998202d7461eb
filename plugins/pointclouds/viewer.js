// Draws the clouds of the report and turns them by mouse, touch or arrow keys. Clouds of one group turn together.
(function () {
  "use strict";
  const groups = new Map();
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  function view(canvas) {
    const points = new Int8Array(bytes(canvas.dataset.points).buffer);
    const labels = canvas.dataset.labels ? bytes(canvas.dataset.labels) : null;
    const colours = JSON.parse(canvas.closest(".clouds").dataset.colours);
    const key = canvas.dataset.group;
    if (!groups.has(key)) groups.set(key, { turn: -0.6, tilt: 0.45, near: 1, views: [] });
    const group = groups.get(key);
    group.views.push(draw);

    function draw() {
      const size = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
      if (!size) return;
      canvas.width = canvas.height = Math.round(size * ratio);
      const context = canvas.getContext("2d");
      const ink = getComputedStyle(canvas).color.match(/\d+/g).slice(0, 3).join(",");
      const ct = Math.cos(group.turn), st = Math.sin(group.turn), ci = Math.cos(group.tilt), si = Math.sin(group.tilt);
      const count = points.length / 3, half = canvas.width / 2, scale = half * 0.86 * group.near;
      const seen = [];
      for (let i = 0; i < count; i++) {
        const x = points[3 * i] / 127, y = points[3 * i + 1] / 127, z = points[3 * i + 2] / 127;
        const across = x * ct - y * st, away = x * st + y * ct;
        seen.push([half + scale * across, half - scale * (z * ci + away * si), away * ci - z * si, i]);
      }
      seen.sort((a, b) => b[2] - a[2]);
      const radius = Math.max(1, canvas.width / 190) * Math.sqrt(group.near) * Math.min(2, Math.sqrt(1024 / count));
      for (const [px, py, depth, i] of seen) {
        const near = Math.min(1, Math.max(0, (1 - depth) / 2));
        context.globalAlpha = labels ? 0.35 + 0.65 * near : 0.15 + 0.85 * near;
        context.fillStyle = labels ? colours[labels[i]] : "rgb(" + ink + ")";
        context.beginPath();
        context.arc(px, py, radius * (0.7 + 0.6 * near), 0, 7);
        context.fill();
      }
    }

    const all = () => group.views.forEach((each) => each());
    let held = null;
    canvas.addEventListener("pointerdown", (event) => {
      held = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
      canvas.style.cursor = "grabbing";
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) return;
      group.turn += (event.clientX - held[0]) * 0.01;
      group.tilt = Math.max(-1.57, Math.min(1.57, group.tilt + (event.clientY - held[1]) * 0.01));
      held = [event.clientX, event.clientY];
      all();
    });
    const release = () => { held = null; canvas.style.cursor = "grab"; };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      group.near = Math.max(0.5, Math.min(5, group.near * Math.exp(-event.deltaY * 0.001)));
      all();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { Object.assign(group, { turn: -0.6, tilt: 0.45, near: 1 }); all(); });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (!step) return;
      event.preventDefault();
      group.turn += step[0];
      group.tilt = Math.max(-1.57, Math.min(1.57, group.tilt + step[1]));
      all();
    });
    draw();
  }

  const start = () => {
    document.querySelectorAll("canvas[data-points]").forEach(view);
    window.addEventListener("resize", () => groups.forEach((group) => group.views.forEach((each) => each())));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
