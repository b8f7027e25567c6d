// A page as one piece of a longer document: a still, whose names begin with the name of its page.
({ slugs, slug, xml }) => {
  const article = document.querySelector("article.bd-article");
  const drop = (selector) => article.querySelectorAll(selector).forEach((box) => box.remove());
  const title = article.querySelector("h1").firstChild.textContent.trim();

  // What moves is shown as it stands, without what moves it.
  article.querySelectorAll(".without").forEach((box) => { box.hidden = false; });
  drop("[hidden]");
  article.querySelectorAll("label").forEach((box) => {
    if (box.querySelector("input, select, textarea")) box.remove();
  });
  drop("script, noscript, button, input, select, textarea, .headerlink, .rope-wrong, .viewcode-link, .rope-links, .rope-buttons");
  article.querySelectorAll("a.rope-enlarge").forEach((box) => box.replaceWith(...box.childNodes));

  // Folds: code is left away, a check keeps its one line, notes are open.
  drop("details.hide.above-input, details.rope-checks > :not(summary)");
  article.querySelectorAll("details.hide").forEach((box) => box.replaceWith(...box.querySelectorAll(":scope > :not(summary)")));
  article.querySelectorAll(".toggle, .toggle-hidden").forEach((box) => box.classList.remove("toggle", "toggle-hidden"));
  article.querySelectorAll("details").forEach((box) => { box.open = true; });

  article.querySelectorAll("img").forEach((image) => {
    const address = image.src;
    image.setAttribute("src", address);
    ["loading", "decoding", "srcset"].forEach((name) => image.removeAttribute(name));
  });

  // Links lead to pages of this document, or out to the web; what lies beside the pages is not in it.
  const rename = (id) => `${slug}--${id}`;
  article.querySelectorAll("a[href]").forEach((link) => {
    if (link instanceof SVGElement || /^(https?|mailto):/.test(link.href)) return;
    const [page, place] = link.href.split("#");
    const there = slugs[page];
    if (there) link.setAttribute("href", place ? `#${there}--${decodeURIComponent(place)}` : `#${there}`);
    else link.replaceWith(...link.childNodes);
    link.removeAttribute("title");
  });
  article.querySelectorAll("svg a").forEach((link) => {
    const page = new URL(link.getAttribute("href") || "", location.href).href.split("#")[0];
    if (slugs[page]) link.setAttribute("href", `#${slugs[page]}`);
    else link.removeAttribute("href");
  });
  article.querySelectorAll("*").forEach((box) => {
    for (const { name, value } of [...box.attributes]) {
      if (name === "id") box.id = rename(value);
      else if (/^(for|aria-labelledby|aria-describedby)$/.test(name)) {
        box.setAttribute(name, value.split(/\s+/).map(rename).join(" "));
      } else if (value.includes("url(#")) box.setAttribute(name, value.replaceAll("url(#", `url(#${slug}--`));
      else if (name.endsWith("href") && value.startsWith("#") && box instanceof SVGElement && box.tagName !== "a") {
        box.setAttribute(name, `#${rename(value.slice(1))}`);
      }
    }
  });

  // The words of a formula are in what it says to those who hear it.
  const words = (heading) => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll(".katex-html, annotation").forEach((box) => box.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const shown = (heading) => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll("a").forEach((link) => link.replaceWith(...link.childNodes));
    copy.querySelectorAll("[id]").forEach((box) => box.removeAttribute("id"));
    return copy.innerHTML;
  };
  const sections = [...article.querySelectorAll("section > h2")].map((heading) => ({
    place: heading.closest("section").id, words: words(heading), shown: shown(heading),
  }));

  // Solutions go to the end of the book.
  const folded = [...article.querySelectorAll("details.solution")];
  folded.forEach((box) => box.remove());
  const written = (box) => (xml ? new XMLSerializer().serializeToString(box) : box.outerHTML);
  const styles = [];
  if (xml) {
    // An e-reader sets MathML itself, and has no rules in the middle of a text.
    for (const box of [article, ...folded]) {
      box.querySelectorAll(".katex").forEach((formula) => formula.replaceWith(formula.querySelector("math")));
      // What KaTeX writes and MathML does not know: an empty width, marks within letters, a third part of an index.
      box.querySelectorAll('[columnspacing=""]').forEach((table) => table.removeAttribute("columnspacing"));
      box.querySelectorAll("math :is(mi, mn, mo, mtext)").forEach((letters) => {
        if (letters.firstElementChild) letters.textContent = letters.textContent;
      });
      box.querySelectorAll("math :is(msub, msup, munder, mover) > mo:last-child:nth-child(3)").forEach((mark) => mark.remove());
      box.querySelectorAll("style").forEach((sheet) => { styles.push(sheet.textContent); sheet.remove(); });
    }
  }
  const links = [...document.querySelectorAll("link[rel=stylesheet]")].map(({ href, media }) => ({ href, media }));
  return {
    title, sections, links, styles,
    body: [...article.childNodes].filter((node) => node.nodeType === Node.ELEMENT_NODE).map(written).join("\n"),
    solutions: folded.map(written).join("\n"),
  };
}
