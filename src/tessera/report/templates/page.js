// What the page does by itself: where one is in it, the slider along z, outlines on and off.
(() => {
  const links = new Map([...document.querySelectorAll("nav a")].map(a => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const a of links.values()) a.classList.remove("here");
      const here = links.get(entry.target.id);
      here.classList.add("here");
      const bar = here.parentElement;
      if (bar.scrollWidth > bar.clientWidth) bar.scrollLeft = here.offsetLeft - 60;
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main section").forEach(s => seen.observe(s));

  for (const walk of document.querySelectorAll(".walk")) {
    const frame = walk.querySelector(".frame"), input = walk.querySelector("input");
    const out = walk.querySelector("output"), z = walk.dataset.z.split(",");
    const show = () => {
      const last = Number(input.max) || 1;
      frame.style.backgroundPosition = `0 ${100 * input.value / last}%`;
      const at = Number(z[input.value]);
      out.textContent = `z = ${at} (${(at * walk.dataset.step).toFixed(1)} µm)`;
    };
    input.addEventListener("input", show);
    show();
  }

  for (const box of document.querySelectorAll("input[data-layer]")) {
    box.addEventListener("change", () => {
      const kind = box.dataset.layer;
      const which = kind === "found" ? ".outline.found:not(.other)" : `.outline.${kind}`;
      for (const path of document.querySelectorAll(which)) path.style.display = box.checked ? "" : "none";
    });
  }
})();
