// What scrolls inside the page can be reached and scrolled with the keyboard.
{
  const wide = ".bd-article :is(pre, table, .katex-display)";
  const mark = () => {
    for (const box of document.querySelectorAll(wide)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", mark);
  addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true);
}

// Paper is light, whatever the screen is.
{
  const page = document.documentElement.dataset;
  let shown = null;
  addEventListener("beforeprint", () => { shown ??= page.theme; page.theme = "light"; });
  addEventListener("afterprint", () => { page.theme = shown ?? page.theme; shown = null; });
}

// Excerpts among the search results show formulas as text, not as TeX.
if (typeof Search !== "undefined") {
  const read = Search.htmlToText;
  const plain = (tex) => tex.replace(/\\[()[\]]|\\(?:begin|end|label|tag|mathrm|operatorname)\b(?:\{\w*\*?\})?|[{}$&\\]/g, " ");
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const fold of page.querySelectorAll("div.math")) fold.remove();
    for (const formula of page.querySelectorAll("span.math")) formula.textContent = plain(formula.querySelector("annotation")?.textContent ?? "");
    return read(page.documentElement.outerHTML, anchor).replace(/\s+/g, " ");
  };
}
