// The explorer's page. It draws the values of a model (a widget in a notebook, or a server through page.js) and sends
// what the user does: {do: "run"}, {do: "change", degradation: "blur"} and so on, as Exploration.handle takes them.

const SILENCE = 10_000; // ms without an answer after which something must be wrong
const NOBODY = "There is no answer: another cell is running, or the kernel was restarted. If so, run this cell again.";
const HINTS = [
    "Choose a photo of a face, or keep this one.",
    "Choose its damage: blur it, remove its colours, paint over a part. The picture shows the effect.",
    "Press Run: this searches for a face of the generator that looks like the damaged photo when it is damaged alike.",
    "Drag over the picture to compare. Change what you like: while the tick beside Run is set, it starts a new search.",
];
const OFTEN = 80; // ms between two values from a dragged slider

function render({ model, el }) {
    const root = h("div", { className: "ex5" });
    const view = { left: "photo", right: "target", chosen: false, tool: "compare", touched: {}, problem: "" };
    view.invited = false; // to paint
    const state = () => model.get("state");

    let waiting = null; // for an answer
    let queued = null; // values to send
    function send(message, data) {
        clearTimeout(waiting);
        waiting = setTimeout(() => problem(model.nobody ?? NOBODY), SILENCE);
        try {
            model.send(message, undefined, data ? [data] : []);
        } catch { // the kernel that this page belonged to is gone
            problem(NOBODY);
        }
    }
    function change(values) {
        for (const name of Object.keys(values)) view.touched[name] = performance.now();
        if (!queued) setTimeout(flush, OFTEN);
        queued = { ...queued, ...values };
    }
    function flush() {
        const values = queued;
        queued = null;
        if (values) send({ do: "change", ...values });
    }
    function ask(name, more = {}) { // after earlier changes
        flush();
        send({ do: name, ...more });
    }
    function problem(text) {
        view.problem = text;
        drawState();
    }
    const upload = (file, action) => problem(sendFile(send, action, file, about.max_upload));
    function answered() {
        clearTimeout(waiting);
        view.problem = "";
    }

    const about = model.get("about");
    const page = { model, about, view, send, upload, change, state };
    const controls = makeControls(page);
    const picture = makePicture(page);
    const run = () => {
        stopPainting(view);
        ask("run");
    };
    const reset = () => {
        view.touched = {};
        ask("reset");
    };
    const buttons = {
        run: button("▶ Run", "Search with these settings", run, { className: "ex5-primary" }),
        stop: button("■ Stop", "Keep the best image so far; changes then wait for Run", () => ask("stop")),
        save: button("Save", "Save the result that is shown: images, figures, numbers, latent", () => ask("save")),
        download: button("Download", "Download the saved folder as a ZIP file", () => ask("download")),
        reset: button("Reset", "Put all controls back to where they started; results are kept", reset),
    };
    const follows = h("input", { type: "checkbox" });
    follows.onchange = () => ask("follow", { on: follows.checked });
    const followWords = h("span", {});
    const followBox = h("label", { className: "ex5-tick" }, follows, followWords);
    const status = h("div", { className: "ex5-status", role: "status" });
    const bar = h("progress", { max: 1, value: 0, "aria-label": "time" });
    const words = h("div", { className: "ex5-words" });
    const progress = h("div", { className: "ex5-progress" }, bar, words);
    const curve = h("div", { className: "ex5-curve" });
    const curveNote = h("div", { className: "ex5-note" },
        "How unlike the damaged photo the image is (d). Values at different sizes are not comparable.");
    const meanings = explained("What these numbers mean", NUMBERS);
    const hints = h("ol", { className: "ex5-hints" }, ...HINTS.map((hint) => h("li", {}, hint)));
    const table = h("div", { className: "ex5-numbers" });
    const past = h("div", { className: "ex5-strip", role: "group", "aria-label": "earlier results" });
    const pastBox = group("Results so far (choose one to go back to it and its settings)", past);
    pastBox.className = "ex5-past";
    root.append(h("div", { className: "ex5-grid" },
        h("div", { className: "ex5-top" },
            h("div", { className: "ex5-buttons" }, ...Object.values(buttons), followBox), status, progress),
        controls.box, picture.box,
        h("div", { className: "ex5-side" }, hints, curve, curveNote, table, meanings), pastBox));
    el.append(root);

    function drawState() {
        const now = state();
        const searching = ["starting", "searching"].includes(now.phase);
        controls.set(now);
        buttons.run.disabled = searching || now.phase === "aligning" || now.unpainted;
        buttons.stop.disabled = !searching;
        follows.checked = now.follows;
        const after = now.live || !now.follows ? "" : "after Run, ";
        followWords.textContent = `${after}each change starts a search`;
        buttons.save.disabled = now.shown === null || searching || now.phase === "finishing";
        buttons.download.hidden = !now.saved;
        status.textContent = view.problem || now.status;
        status.classList.toggle("ex5-error", now.error || Boolean(view.problem));
        root.dataset.phase = now.phase;
        table.classList.toggle("ex5-stale", now.stale.length > 0);
        curve.classList.toggle("ex5-stale", now.stale.includes("result"));
        for (const each of past.children) each.setAttribute("aria-pressed", each.value === String(now.shown));
        picture.draw();
    }
    function drawProgress() {
        const { share = 0, words: text = "" } = model.get("progress");
        bar.value = share;
        words.textContent = text;
        progress.classList.toggle("ex5-idle", !text);
    }
    function drawCurve() {
        const { points = [], steps } = model.get("curve");
        curve.innerHTML = points.length ? curveSvg(points, steps) : "";
        curveNote.hidden = meanings.hidden = !points.length;
        hints.hidden = Boolean(points.length);
    }
    function drawNumbers() {
        const columns = model.get("numbers");
        table.replaceChildren(...(columns.length ? numbersTable(columns) : []));
    }
    function drawHistory() {
        const history = model.get("history");
        const back = (number) => {
            Object.assign(view, { touched: {}, chosen: false });
            stopPainting(view);
            ask("restore", { number });
        };
        pastBox.hidden = !history.length;
        past.replaceChildren(...history.map(({ number, picture: small, words: text, short }) => {
            const card = thumbnail(small, `Result ${text}`, () => back(number), { value: String(number) });
            card.append(h("b", {}, String(number)), ...short.map((line) => h("span", {}, line)));
            return card;
        }));
        drawState();
    }
    function receive(message, buffers) {
        answered();
        if (message.problem) problem(message.problem);
        if (message.file) offer(new Blob([buffers[0]]), message.file);
    }
    const drawn = {
        "change:state": () => { answered(); drawState(); },
        "change:progress": drawProgress,
        "change:curve": drawCurve,
        "change:numbers": drawNumbers,
        "change:history": drawHistory,
        "change:faces": () => {
            controls.setFaces(model.get("faces"));
            drawState();
        },
        "change:mask": picture.drawMask,
        ...Object.fromEntries(Object.keys(PICTURES).map((name) => [`change:${name}`, () => picture.load(name)])),
    };
    const heard = { ...drawn, "msg:custom": receive };
    for (const [event, handler] of Object.entries(heard)) model.on(event, handler);

    // A notebook's theme may differ from the browser's: what counts is whether the text here is light.
    function theme() {
        const [r, g, b] = getComputedStyle(el).color.match(/[\d.]+/g)?.map(Number) ?? []; // none before it is on a page
        root.dataset.theme = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "dark" : "light";
    }
    const themes = new MutationObserver(() => setTimeout(theme, 100));
    themes.observe(document.body, { attributes: true });
    const shown = new ResizeObserver(theme);
    shown.observe(root);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", theme);
    theme();
    Object.values(drawn).forEach((draw) => draw());
    send({ do: "look", x: 0.5, y: 0.5, side: 1 }); // no zoom yet, whatever the page before this one had
    const settled = setInterval(() => queued || drawState(), 1000); // the kernel's values, once the user lets go
    return () => {
        for (const [event, handler] of Object.entries(heard)) model.off(event, handler);
        themes.disconnect();
        shown.disconnect();
        scheme.removeEventListener("change", theme);
        clearTimeout(waiting);
        clearInterval(settled);
        picture.forget();
    };
}

export default { render, sendFile };
