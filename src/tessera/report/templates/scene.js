// Objects in three dimensions, by plain WebGL: turn, come nearer, point to read.
(() => {
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

  const VERTEX = `
    attribute vec4 at; attribute vec3 normal; attribute vec3 colour;
    uniform mat3 turn; uniform vec2 zoom; uniform float radius;
    varying vec3 shown;
    void main() {
      vec3 p = turn * at.xyz, n = turn * normal;
      float light = 0.34 + 0.5 * abs(n.z) + 0.16 * max(0.0, -n.y);
      float far = mix(0.5, 1.0, clamp(0.5 + 0.5 * p.z / radius, 0.0, 1.0));
      shown = mix(vec3(0.063, 0.082, 0.102), colour * light * 1.08, far);
      gl_Position = vec4(p.x * zoom.x, -p.y * zoom.y, -p.z / radius * 0.5, 1.0 - 0.28 * p.z / radius);
    }`;
  const PIXEL = "precision mediump float; varying vec3 shown; void main() { gl_FragColor = vec4(shown, 1.0); }";

  function start(holder) {
    const data = JSON.parse(document.getElementById(holder.dataset.source).textContent);
    const canvas = holder.querySelector("canvas"), tip = holder.querySelector(".tip");
    const gl = canvas.getContext("webgl", { antialias: true });
    if (!gl || !gl.getExtension("OES_element_index_uint")) { canvas.remove(); return; }

    const packed = new Uint16Array(bytes(data.vertices).buffer);
    const local = new Uint16Array(bytes(data.faces).buffer);
    const count = packed.length / 4, [low, high] = data.box;
    const middle = low.map((v, i) => (v + high[i]) / 2);
    const radius = Math.hypot(...low.map((v, i) => high[i] - v)) / 2;
    const at = new Float32Array(count * 4), normal = new Float32Array(count * 3);
    const colour = new Uint8Array(count * 3);
    for (let v = 0; v < count; v++) {
      for (let k = 0; k < 3; k++) {
        at[4 * v + k] = data.low[k] + packed[4 * v + k] / 65535 * data.size[k] - middle[k];
        colour[3 * v + k] = data.colours[packed[4 * v + 3]][k];
      }
      at[4 * v + 3] = 1;
    }
    const index = new Uint32Array(local.length);
    for (let n = 0; n + 1 < data.faceStart.length; n++)
      for (let f = 3 * data.faceStart[n]; f < 3 * data.faceStart[n + 1]; f++)
        index[f] = local[f] + data.vertexStart[n];
    for (let f = 0; f < index.length; f += 3) {
      const [a, b, c] = [index[f], index[f + 1], index[f + 2]];
      const u = [0, 1, 2].map(k => at[4 * b + k] - at[4 * a + k]);
      const w = [0, 1, 2].map(k => at[4 * c + k] - at[4 * a + k]);
      const n = [u[1] * w[2] - u[2] * w[1], u[2] * w[0] - u[0] * w[2], u[0] * w[1] - u[1] * w[0]];
      for (const v of [a, b, c]) for (let k = 0; k < 3; k++) normal[3 * v + k] += n[k];
    }
    for (let v = 0; v < count; v++) {
      const long = Math.hypot(normal[3 * v], normal[3 * v + 1], normal[3 * v + 2]) || 1;
      for (let k = 0; k < 3; k++) normal[3 * v + k] /= long;
    }
    // The frame of the volume: twelve edges, lit from every side.
    const corner = n => [0, 1, 2].map(k => (n >> k & 1 ? high[k] : low[k]) - middle[k]);
    const wire = [];
    for (let a = 0; a < 8; a++) for (let k = 0; k < 3; k++)
      if (!(a >> k & 1)) wire.push(...corner(a), 1, ...corner(a | 1 << k), 1);

    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, PIXEL]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) { canvas.remove(); return; }
    gl.useProgram(program);
    const place = ["at", "normal", "colour"].map(n => gl.getAttribLocation(program, n));
    const uniform = n => gl.getUniformLocation(program, n);
    const [turnAt, zoomAt, radiusAt] = ["turn", "zoom", "radius"].map(uniform);
    const buffer = (what, values) => {
      const made = gl.createBuffer();
      gl.bindBuffer(what, made);
      gl.bufferData(what, values, gl.STATIC_DRAW);
      return made;
    };
    const buffers = [at, normal, colour].map(v => buffer(gl.ARRAY_BUFFER, v));
    const wires = buffer(gl.ARRAY_BUFFER, new Float32Array(wire));
    buffer(gl.ELEMENT_ARRAY_BUFFER, index);
    gl.enable(gl.DEPTH_TEST);

    let [about, tilt] = data.camera, nearness = 1, idle = true, asked = false;
    const matrix = () => {
      const [ca, sa, cb, sb] = [Math.cos(about), Math.sin(about), Math.cos(tilt), Math.sin(tilt)];
      // Rows: right, down, towards the viewer.
      return [[ca, 0, sa], [sa * sb, cb, -ca * sb], [-sa * cb, sb, ca * cb]];
    };
    const zoom = () => {
      const wide = canvas.clientWidth / canvas.clientHeight, fit = nearness * 1.0 / radius;
      return wide > 1 ? [fit / wide, fit] : [fit, fit * wide];
    };
    function draw() {
      asked = false;
      const sharp = Math.min(window.devicePixelRatio || 1, 2);
      const [w, h] = [Math.round(canvas.clientWidth * sharp), Math.round(canvas.clientHeight * sharp)];
      if (!w || !h) return;
      if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
      gl.viewport(0, 0, w, h);
      gl.clearColor(0.063, 0.082, 0.102, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      const m = matrix();
      gl.uniformMatrix3fv(turnAt, false, [0, 1, 2].flatMap(c => [m[0][c], m[1][c], m[2][c]]));
      gl.uniform2fv(zoomAt, zoom());
      gl.uniform1f(radiusAt, radius);
      [[4, gl.FLOAT, false], [3, gl.FLOAT, false], [3, gl.UNSIGNED_BYTE, true]].forEach(([n, type, unit], i) => {
        gl.bindBuffer(gl.ARRAY_BUFFER, buffers[i]);
        gl.enableVertexAttribArray(place[i]);
        gl.vertexAttribPointer(place[i], n, type, unit, 0, 0);
      });
      gl.drawElements(gl.TRIANGLES, index.length, gl.UNSIGNED_INT, 0);
      gl.bindBuffer(gl.ARRAY_BUFFER, wires);
      gl.vertexAttribPointer(place[0], 4, gl.FLOAT, false, 0, 0);
      gl.disableVertexAttribArray(place[1]);
      gl.disableVertexAttribArray(place[2]);
      gl.vertexAttrib3f(place[1], 0, 0, 1);
      gl.vertexAttrib3f(place[2], 0.42, 0.5, 0.55);
      gl.drawArrays(gl.LINES, 0, wire.length / 4);
    }
    const ask = () => { if (!asked) { asked = true; requestAnimationFrame(draw); } };

    // The object under the pointer: the nearest to the viewer whose disc holds it.
    function pick(x, y) {
      const m = matrix(), z = zoom();
      let best = null, nearest = -Infinity;
      data.objects.forEach(one => {
        const p = one.at.map((v, k) => v - middle[k]);
        const [px, py, pz] = m.map(row => row[0] * p[0] + row[1] * p[1] + row[2] * p[2]);
        const w = 1 - 0.28 * pz / radius;
        const u = (px * z[0] / w + 1) / 2 * canvas.clientWidth;
        const v = (py * z[1] / w + 1) / 2 * canvas.clientHeight;
        const reach = one.diameter / 2 * z[0] / w / 2 * canvas.clientWidth;
        if (Math.hypot(u - x, v - y) < Math.max(reach, 4) && pz > nearest) { best = one; nearest = pz; }
      });
      return best;
    }

    const touching = new Map();
    let spread = 0;
    canvas.addEventListener("pointerdown", e => {
      idle = false;
      tip.hidden = true;
      canvas.setPointerCapture(e.pointerId);
      touching.set(e.pointerId, [e.offsetX, e.offsetY]);
      spread = 0;
    });
    canvas.addEventListener("pointermove", e => {
      const before = touching.get(e.pointerId);
      if (before) {
        touching.set(e.pointerId, [e.offsetX, e.offsetY]);
        if (touching.size === 2) {
          const [a, b] = [...touching.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
          if (spread) nearness = Math.min(8, Math.max(0.6, nearness * now / spread));
          spread = now;
        } else {
          about += (e.offsetX - before[0]) * 0.008;
          tilt = Math.max(-1.57, Math.min(1.57, tilt - (e.offsetY - before[1]) * 0.008));
        }
        return ask();
      }
      const one = pick(e.offsetX, e.offsetY);
      tip.hidden = !one;
      if (one) {
        tip.textContent = `${data.name} ${one.id}\n${Math.round(one.volume).toLocaleString()} µm³, ⌀ ${one.diameter.toFixed(1)} µm`;
        tip.style.left = `${Math.min(e.offsetX + 14, canvas.clientWidth - 150)}px`;
        tip.style.top = `${Math.max(e.offsetY - 44, 4)}px`;
      }
    });
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, e => { touching.delete(e.pointerId); spread = 0; });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("wheel", e => {
      idle = false;
      e.preventDefault();
      nearness = Math.min(8, Math.max(0.6, nearness * Math.exp(-e.deltaY * 0.0012)));
      ask();
    }, { passive: false });
    canvas.addEventListener("keydown", e => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[e.key];
      if (!step) return;
      idle = false;
      e.preventDefault();
      about += step[0];
      tilt = Math.max(-1.57, Math.min(1.57, tilt + step[1]));
      ask();
    });

    // It turns slowly while it is in view and nobody has touched it.
    let visible = false, last = 0;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    function spin(now) {
      if (!visible || !idle || still) { last = 0; return; }
      if (last) about += Math.min(now - last, 100) * 0.00012;
      last = now;
      draw();
      requestAnimationFrame(spin);
    }
    new IntersectionObserver(([entry]) => {
      const came = entry.isIntersecting && !visible;
      visible = entry.isIntersecting;
      if (came) requestAnimationFrame(spin);
    }).observe(holder);
    new ResizeObserver(ask).observe(canvas);
    draw();
    holder.querySelector("img").style.visibility = "hidden";
  }
  document.querySelectorAll(".scene").forEach(start);
})();
