"use strict";
// A tap on a figure opens it in full size, in a dialog that scrolls. Without this script the link opens the file.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.rope-enlarge");
  const plain = !event.button && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || !window.HTMLDialogElement) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.className = "rope-enlarged";
  dialog.setAttribute("aria-label", "Figure in full size");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  const picture = document.createElement("img");
  picture.src = link.href;
  picture.alt = link.querySelector("img").alt;
  const box = document.createElement("div");
  box.tabIndex = 0; // so that the arrow keys scroll it
  box.append(picture);
  dialog.append(close, box);
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog || target === close) dialog.close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});
