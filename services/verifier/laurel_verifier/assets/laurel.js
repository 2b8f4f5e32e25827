// The pages work without this. It adds two comforts: copying a credential's address, and dropping a file onto the form.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  const place = button.parentElement;
  place.hidden = false;
  button.addEventListener("click", async () => {
    const said = place.querySelector("[role=status]");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "The browser does not allow it; the link stands below.";
    }
  });
}

const file = document.getElementById("file");
const form = file && file.closest("form");
if (form) {
  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("dropping");
  });
  form.addEventListener("dragleave", () => form.classList.remove("dropping"));
  form.addEventListener("drop", (event) => {
    form.classList.remove("dropping");
    if (event.dataTransfer.files.length) {
      event.preventDefault();
      file.files = event.dataTransfer.files;
    }
  });
}
