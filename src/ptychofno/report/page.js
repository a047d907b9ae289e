
(() => {
  const root = document.documentElement;
  const dark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
  });

  for (const gallery of document.querySelectorAll(".gallery")) {
    const truth = Object.fromEntries(
      [...gallery.querySelectorAll(".truth img")].map((image) => [image.dataset.kind, image.src]),
    );
    for (const image of gallery.querySelectorAll(".card:not(.truth) img")) {
      const own = image.src;
      const show = (source) => () => { image.src = source; };
      if (!truth[image.dataset.kind]) continue;
      image.classList.add("held");
      image.addEventListener("pointerdown", show(truth[image.dataset.kind]));
      for (const end of ["pointerup", "pointerleave", "pointercancel"]) image.addEventListener(end, show(own));
    }
  }
  root.dataset.ready = "yes";
})();
