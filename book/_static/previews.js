"use strict";
// A card beside a link shows what the link leads to: an equation, a figure, a term, a work, a section, a name of the
// package. Pointing or the keyboard's focus shows it, a first tap too; its title leads on. The data of a page are a
// script of their own (rope_book.previews) that comes with the first such link.
{
  const LINKS = ".bd-article a.reference.internal[href]";
  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const pages = {}; // of a page: a promise of its cards
  const ready = {};
  let card = null, link = null, wait = 0, touched = false;

  window.ropePreviews = (page, found) => ready[page](found);

  const load = (page) => pages[page] ??= new Promise((done, fail) => {
    ready[page] = done;
    const script = document.createElement("script");
    script.onerror = fail;
    script.src = new URL(`_static/previews/${page}.js`, root).href;
    document.head.append(script);
  });

  // The page and the place that a link leads to; null where it leads out of the book's pages.
  const place = (link) => {
    const target = new URL(link.href);
    const path = decodeURIComponent(target.href.split(/[?#]/)[0]);
    const base = decodeURIComponent(root.href);
    if (!path.startsWith(base) || !path.endsWith(".html") || path.startsWith(`${base}_modules/`)) return null;
    return { page: path.slice(base.length, -5), id: decodeURIComponent(target.hash.slice(1)) };
  };

  const fill = (html) => {
    card.innerHTML = html;
    for (const image of card.querySelectorAll("[data-src]")) {
      image.removeAttribute("loading");
      image.src = new URL(image.dataset.src, root).href;
    }
    const lead = document.createElement("a");
    lead.href = link.href;
    lead.tabIndex = -1; // for the keyboard, the link itself leads there
    lead.textContent = "Go there";
    lead.className = "rope-preview-lead";
    card.append(lead);
    const sheet = new URL("_static/katex/katex.min.css", root).href;
    if (card.querySelector(".katex") && ![...document.styleSheets].some((one) => one.href?.startsWith(sheet))) {
      const formulas = document.createElement("link");
      formulas.rel = "stylesheet";
      formulas.href = sheet;
      formulas.onload = put;
      document.head.append(formulas);
    }
    card.querySelectorAll("img").forEach((image) => image.addEventListener("load", put));
  };

  // Under the link's line or above it, wherever there is more room; never over it.
  function put() {
    if (!card || !link) return;
    const at = link.getClientRects()[0] ?? link.getBoundingClientRect();
    const whole = link.getBoundingClientRect();
    const width = document.documentElement.clientWidth, gap = 6;
    const above = whole.top - 2 * gap, under = innerHeight - whole.bottom - 2 * gap;
    card.style.maxWidth = `min(34rem, ${width - 2 * gap}px)`;
    card.style.maxHeight = `${Math.max(above, under, 80)}px`;
    const size = card.getBoundingClientRect();
    const below = size.height <= under || under >= above;
    card.style.left = `${Math.max(gap, Math.min(at.left, width - size.width - gap)) + scrollX}px`;
    card.style.top = `${(below ? whole.bottom + gap : whole.top - gap - size.height) + scrollY}px`;
  }

  async function show(at) {
    const to = place(at);
    if (!to || at === link) return;
    hide();
    link = at;
    let html;
    try {
      html = (await load(to.page))[to.id];
    } catch {
      html = "";
    }
    if (!html || link !== at) {
      if (link === at) link = null;
      return;
    }
    card = document.createElement("div");
    card.id = "rope-preview";
    card.className = "rope-preview";
    card.setAttribute("role", "tooltip");
    card.addEventListener("pointerenter", () => clearTimeout(wait));
    card.addEventListener("pointerleave", later);
    fill(html);
    document.body.append(card);
    link.setAttribute("aria-describedby", card.id);
    put();
  }

  function hide() {
    clearTimeout(wait);
    link?.removeAttribute("aria-describedby");
    card?.remove();
    card = link = null;
  }

  function later(event) {
    if (event?.pointerType === "touch") return;
    clearTimeout(wait);
    wait = setTimeout(hide, 250);
  }

  document.addEventListener("pointerover", (event) => {
    const over = event.pointerType !== "touch" && event.target.closest?.(LINKS);
    if (!over) return;
    clearTimeout(wait);
    if (over !== link) wait = setTimeout(() => show(over), 200);
    over.addEventListener("pointerleave", later, { once: true });
  });
  document.addEventListener("pointerdown", (event) => {
    touched = event.pointerType === "touch";
    if (card && !card.contains(event.target) && event.target.closest?.(LINKS) !== link) hide();
  });
  document.addEventListener("click", (event) => {
    const at = event.target.closest?.(LINKS);
    if (!touched || !at || at === link && card || !place(at)) return;
    event.preventDefault();
    show(at).then(() => link === at || (location.href = at.href)); // nothing to show: the tap leads there
  }, true);
  document.addEventListener("focusin", (event) => {
    const at = event.target.closest?.(LINKS);
    if (at?.matches(":focus-visible")) show(at);
    else if (card && !card.contains(event.target)) hide();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("resize", put);
  addEventListener("pagehide", hide);
}
