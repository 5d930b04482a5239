// The "Create workflow" panel: rows without a round trip, suggestions, upload with progress. Without this file it is plain forms.
import { attribute, flash } from "./dom.js";

const form = document.getElementById("create-form");
const list = document.getElementById("jobs");

function renumber() {
  [...list.children].forEach((row, index) => {
    const number = index + 1;
    attribute(row, "aria-label", `Job ${number}`);
    for (const name of ["job_id", "branch", "job_type", "depends_on"]) {
      const control = row.querySelector(`[name="${name}"]`);
      row.querySelector(`label[for="${control.id}"]`).htmlFor = `${name}-${number}`;
      control.id = `${name}-${number}`;
    }
    const remove = row.querySelector('[name="remove"]');
    remove.value = index;
    attribute(remove, "aria-label", `Remove job ${number}`);
    remove.hidden = list.children.length === 1;
  });
}

function suggestBranches() {
  const names = new Set([...list.querySelectorAll('[name="branch"]')].map((input) => input.value).filter(Boolean));
  document.getElementById("branches").replaceChildren(...[...names].map((name) => Object.assign(document.createElement("option"), { value: name })));
}

function addRow() {
  const row = document.getElementById("job-row").content.firstElementChild.cloneNode(true);
  const taken = new Set([...list.querySelectorAll('[name="job_id"]')].map((input) => input.value));
  let number = 1;
  while (taken.has(`j${number}`)) number += 1;
  const last = list.lastElementChild;
  row.querySelector('[name="job_id"]').value = `j${number}`;
  row.querySelector('[name="branch"]').value = last?.querySelector('[name="branch"]').value || "b1";
  if ([...row.querySelector('[name="job_type"]').options].some((option) => option.value === "SEGMENT_CELLS")) {
    row.querySelector('[name="job_type"]').value = "SEGMENT_CELLS";
  }
  list.append(row);
  renumber();
  suggestBranches();
  row.querySelector('[name="job_id"]').focus();
}

form.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.name === "add") {
    event.preventDefault();
    addRow();
  } else if (button?.name === "remove") {
    event.preventDefault();
    const row = button.closest(".job-row");
    const next = row.nextElementSibling || row.previousElementSibling;
    row.remove();
    renumber();
    next?.querySelector("input").focus();
  }
});
form.addEventListener("change", suggestBranches);
form.addEventListener("submit", () => {
  // Not before the browser has read the form.
  setTimeout(() => { document.getElementById("create-button").disabled = true; });
});
addEventListener("pageshow", () => { document.getElementById("create-button").disabled = false; });
renumber();
form.querySelector('[aria-invalid="true"]')?.focus();

// ---- upload
const upload = document.getElementById("upload");
const input = document.getElementById("file");

function send(file) {
  const bar = document.getElementById("upload-bar");
  const said = document.getElementById("upload-text");
  const request = new XMLHttpRequest();
  const body = new FormData();
  body.append("file", file);
  request.open("POST", "/slide");
  request.setRequestHeader("X-CSRFToken", upload.querySelector("[name=csrfmiddlewaretoken]").value);
  request.upload.onprogress = (event) => {
    const percent = Math.floor((100 * event.loaded) / event.total);
    bar.hidden = false;
    attribute(bar, "aria-valuenow", percent);
    attribute(bar.querySelector("rect"), "width", `${percent}%`);
  };
  said.textContent = `Sending ${file.name}`;
  request.onloadend = () => {
    bar.hidden = true;
    if (request.status === 201) return uploaded(JSON.parse(request.responseText), said);
    said.textContent = `${file.name} was not kept: ${reason(request)}`;
  };
  request.send(body);
}

function reason(request) {
  try {
    return Object.values(JSON.parse(request.responseText)).flat().join(" ");
  } catch {
    return request.status ? `the server answered ${request.status}.` : "the server did not answer.";
  }
}

function uploaded(slide, said) {
  const select = document.getElementById("slide");
  const option = new Option(slide.mpp === null ? `${slide.name} (µm per pixel unknown)` : slide.name, slide.slide_id, true, true);
  option.toggleAttribute("data-no-mpp", slide.mpp === null);
  select.add(option, 1);
  said.textContent = `${slide.name} is ready and chosen${slide.mpp === null ? "; please state its microns per pixel" : ""}.`;
  input.value = "";
}

upload.addEventListener("submit", (event) => {
  event.preventDefault();
  if (input.files[0]) send(input.files[0]);
  else flash("error", "Choose a slide file first.");
});
input.addEventListener("change", () => input.files[0] && send(input.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  upload.addEventListener(name, (event) => {
    event.preventDefault();
    upload.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
}
