// Elements of the page, and files to and from it. The page's scripts are joined to one module (page.SCRIPT), because a
// widget needs that.

function h(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (name in element) element[name] = value;
        else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
}

function button(text, title, onclick, more = {}) {
    return h("button", { type: "button", textContent: text, title, onclick, ...more });
}

// What a word means, behind a "?" that opens by click, touch and key.
function help(what, ...words) {
    const mark = h("summary", { "aria-label": `what is this: ${what}` }, "?");
    const box = h("details", { className: "ex5-help", name: "ex5-help" }, mark, h("div", {}, ...words)); // one at a time
    const close = () => (box.open = false);
    box.addEventListener("keydown", (event) => event.key === "Escape" && close());
    box.addEventListener("focusout", (event) => event.relatedTarget && !box.contains(event.relatedTarget) && close());
    return box;
}

const PART = 500_000; // bytes of a file per message

// Send a file in parts by `send(message, bytes)`; returns what is wrong with it, in words.
function sendFile(send, action, file, most) {
    if (file.size > most) return `${file.name} is larger than ${most / 1e6} MB: scale it down or save it as JPEG.`;
    (async () => {
        for (let at = 0; at < Math.max(file.size, 1); at += PART) {
            const part = await file.slice(at, at + PART).arrayBuffer();
            send({ do: action, name: file.name, size: file.size, at }, part);
        }
    })();
    return "";
}

// Give the user a file.
function offer(content, name) {
    const href = URL.createObjectURL(content);
    h("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

function thumbnail(source, title, onclick, more = {}) {
    const card = button("", title, onclick, { className: "ex5-thumb", "aria-label": title, ...more });
    card.append(h("img", source ? { src: source, alt: "" } : { alt: "" }));
    return card;
}
