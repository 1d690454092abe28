// A served page: its modes, each with a model that has the methods of a widget's model. A model asks the server for
// changes, one request at a time, and posts messages in order.

const GONE = "The program behind this page does not answer: start it again, and open the address that it prints.";

const main = document.querySelector("main");
const { token } = main.dataset;
const address = (path, more = {}) => `${path}?${new URLSearchParams({ token, ...more })}`;

function connect(mode) {
    const values = {};
    const handlers = {};
    let version = 0;
    let posted = Promise.resolve();

    const fire = (event, ...rest) => (handlers[event] ?? []).forEach((handler) => handler(...rest));
    const gone = (error) => fire("msg:custom", { problem: error.answer ?? GONE });
    const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

    async function call(url, more) {
        const reply = await fetch(url, more);
        if (!reply.ok) throw Object.assign(new Error(), { answer: await reply.text() });
        return reply;
    }
    async function ask() {
        const reply = await call(address("changes", { mode, since: version }));
        const news = await reply.json();
        version = news.version;
        for (const [name, value] of Object.entries(news.values)) {
            values[name] = value?.base64 === undefined ? value : bytes(value.base64);
        }
        for (const name of Object.keys(news.values)) fire(`change:${name}`);
    }
    async function follow() {
        for (;;) {
            try {
                await ask();
            } catch (error) {
                gone(error);
                await pause(2);
            }
        }
    }
    async function post(message, body) {
        try {
            await call(address("send", { mode, message: JSON.stringify(message) }), { method: "POST", body });
        } catch (error) {
            gone(error);
        }
    }
    return {
        nobody: GONE, address,
        problem: (text) => fire("msg:custom", text ? { problem: text } : {}),
        get: (name) => values[name],
        on: (event, handler) => (handlers[event] ??= []).push(handler),
        off: (event, handler) => (handlers[event] = handlers[event].filter((each) => each !== handler)),
        send(message, _, buffers = []) {
            if (message.do !== "download") {
                posted = posted.then(() => post(message, buffers[0]));
                return;
            }
            const href = address("archive", message.picture ? { picture: message.picture } : {});
            Object.assign(document.createElement("a"), { href, download: "" }).click();
            fire("msg:custom", {}); // an answer: the browser does the rest
        },
        async ready() {
            await ask();
            follow();
        },
    };
}

// Each mode opens when it is first looked at.
const MODES = {
    async explore(el) {
        const { default: explorer } = await import(`./explorer.js?token=${token}`);
        const model = connect("explore");
        await model.ready();
        explorer.render({ model, el });
        const send = (message, part) => model.send(message, undefined, [part]);
        return { take: (file) => model.problem(explorer.sendFile(send, "upload", file, model.get("about").max_upload)) };
    },
    async restore(el) {
        const { default: restoring } = await import(`./restore.js?token=${token}`);
        const model = connect("restore");
        await model.ready();
        return restoring.render({ model, el });
    },
};
const tabs = [...document.querySelectorAll("[role=tab]")];
const opened = {};
let current = "";

function open(name) {
    current = name;
    for (const tab of tabs) {
        const on = tab.id === `tab-${name}`;
        tab.setAttribute("aria-selected", on);
        tab.tabIndex = on ? 0 : -1;
    }
    for (const each of Object.keys(MODES)) document.getElementById(each).hidden = each !== name;
    opened[name] ??= MODES[name](document.getElementById(name));
}
for (const name of Object.keys(MODES)) {
    const panel = Object.assign(document.createElement("div"), { id: name });
    if (tabs.length) {
        panel.setAttribute("role", "tabpanel");
        panel.setAttribute("aria-labelledby", `tab-${name}`);
    }
    main.append(panel);
}
const named = () => (tabs.length && location.hash !== "#explore" ? "restore" : "explore");
for (const [i, tab] of tabs.entries()) {
    tab.onclick = () => (location.hash = tab.id.slice(4));
    tab.onkeydown = (event) => {
        if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
        tabs[1 - i].focus();
        tabs[1 - i].click();
    };
}
addEventListener("hashchange", () => open(named()));
open(named());

// A photo may be dropped anywhere, or pasted.
async function take(files) {
    const photo = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
    if (photo) (await opened[current]).take(photo);
}
const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
        if (!carriesFile(event)) return;
        event.preventDefault(); // or the browser would open the file
        document.body.classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
        if (kind === "drop") take(event.dataTransfer.files);
    });
}
addEventListener("paste", (event) => event.clipboardData?.files.length && take(event.clipboardData.files));
