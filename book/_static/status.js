// A sentence above every page while something of the book no longer works with the newest versions of what it needs. It
// is empty in the book; `.github/status.py` fills in the first line in the published copy.
const ropeStatus = {"said": "", "link": ""};
if (ropeStatus.said) {
  const box = document.createElement("div");
  box.className = "admonition warning rope-status";
  box.innerHTML = '<p class="admonition-title">State of this book</p><p></p>';
  box.lastChild.append(`${ropeStatus.said} `, Object.assign(document.createElement("a"), { href: ropeStatus.link, textContent: "The report" }), ".");
  document.querySelector(".bd-article, main")?.prepend(box);
}
