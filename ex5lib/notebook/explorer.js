// The explorer's page. It draws the values of a model (a widget's in a notebook, a server's through page.js) and sends what
// the user does: {do: "run"}, {do: "change", degradation: "blur"} and so on, as Exploration.handle takes them.

const PICTURES = ["photo", "target", "result", "composite", "previous"];
const PART = 500_000; // bytes of a file that are sent at once
const SETTLED = 700; // ms after its last change for which a control is the user's and not the kernel's
const SILENCE = 10_000; // ms without an answer after which something must be wrong
const NOBODY = "There is no answer: another cell is running, or the kernel was restarted. If so, run this cell again.";

function render({ model, el }) {
    const root = h("div", { className: "ex5" });
    el.append(root);
    const about = model.get("about");
    const view = { left: "photo", right: "target", chosen: false, at: 0.5, tool: "wipe", touched: {}, sent: 0, problem: "" };
    const urls = {};

    // ——— Sending ———
    let waiting = null;
    let queued = null;
    function send(message, data) {
        clearTimeout(waiting);
        waiting = setTimeout(() => problem(NOBODY), SILENCE);
        model.send(message, undefined, data ? [data] : []);
    }
    function change(values) { // a slider that is dragged sends its latest value, and that twelve times a second at most
        for (const name of Object.keys(values)) view.touched[name] = performance.now();
        const first = !queued;
        queued = { ...queued, ...values };
        if (first) setTimeout(() => { const latest = queued; queued = null; send({ do: "change", ...latest }); }, 80);
    }
    function problem(text) {
        view.problem = text;
        drawState();
    }

    // ——— Controls ———
    const controls = {};
    const isFree = (name) => performance.now() - (view.touched[name] ?? -1e9) > SETTLED;
    function row(label, ...children) {
        return h("div", { className: "ex5-row" }, h("span", { className: "ex5-label" }, label), ...children);
    }
    // A slider and a typed value; `toSlider` and `fromSlider` map between the two scales.
    function slider(name, { label, unit, min, max, step, log }) {
        const toSlider = log ? Math.log10 : (x) => x;
        const fromSlider = log ? (x) => Number((10 ** x).toPrecision(2)) : (x) => Number(x);
        const range = h("input", { type: "range", min: toSlider(min), max: toSlider(max), step: log ? 0.1 : step, "aria-label": label });
        const typed = h("input", { type: "number", step: "any", "aria-label": `${label}, typed`, inputMode: "decimal" });
        range.oninput = () => { typed.value = fromSlider(range.value); change({ [name]: fromSlider(range.value) }); };
        typed.onchange = () => typed.value !== "" && change({ [name]: Number(typed.value) });
        const mark = h("button", { type: "button", className: "ex5-mark", hidden: true });
        const box = row(unit ? `${label} (${unit})` : label, h("span", { className: "ex5-slider" }, range, mark), typed);
        controls[name] = {
            box, mark,
            set(value) {
                if (!isFree(name) || document.activeElement === typed) return;
                range.value = toSlider(value);
                typed.value = value;
            },
            place(value) { // a thumb is 16 px wide, so that its centre does not reach the slider's ends
                const share = (toSlider(value) - toSlider(min)) / (toSlider(max) - toSlider(min));
                mark.style.left = `calc(8px + ${share} * (100% - 16px))`;
            },
        };
        return box;
    }
    function select(name, label, options, onpick) {
        const element = h("select", { "aria-label": label }, ...options.map((each) => h("option", { value: each, textContent: each })));
        element.onchange = () => onpick(element.value);
        controls[name] = { box: row(label, element), set: (value) => { if (isFree(name)) element.value = value; } };
        return controls[name].box;
    }
    function tick(name, label, title, toValue, fromChoice) {
        const element = h("input", { type: "checkbox" });
        element.onchange = () => change({ [name]: toValue(element.checked) });
        return { box: h("label", { className: "ex5-tick", title }, element, label), set: (choice) => (element.checked = fromChoice(choice)) };
    }

    const file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "photo file" });
    file.onchange = () => { upload(file.files[0]); file.value = ""; };
    async function upload(chosen) {
        if (!chosen) return;
        if (chosen.size > about.max_upload) return problem(`${chosen.name} is larger than ${about.max_upload / 1e6} MB: save it smaller, or as JPEG.`);
        view.problem = "";
        for (let at = 0; at < Math.max(chosen.size, 1); at += PART) {
            const part = await chosen.slice(at, at + PART).arrayBuffer();
            send({ do: "upload", name: chosen.name, size: chosen.size, at }, part);
        }
    }
    const photoName = h("span", { className: "ex5-name" });
    const sampled = h("select", { "aria-label": "sample photos" }, h("option", { value: "", textContent: "a sample …" }),
        ...about.photos.map((each) => h("option", { value: each, textContent: each })));
    sampled.onchange = () => { if (sampled.value) send({ do: "choose", name: sampled.value }); sampled.value = ""; };
    const faces = h("div", { className: "ex5-strip", role: "group", "aria-label": "faces in the photo" });
    const follows = tick("sigma", "σ follows the kernel size", "σ = 0.15 · kernel size + 0.35", (on) => (on ? null : Number((0.15 * state().choice.kernel_size + 0.35).toFixed(2))), (choice) => choice.sigma === null);
    const damaged = tick("damaged", "the photo itself is damaged", "Nothing is done to the photo; there is then no original to compare with.", (on) => on, (choice) => choice.damaged);
    const hole = ["top", "left", "height", "width"].map((name) => h("input", { type: "number", min: 0, max: 256, "aria-label": `${name} of the hole`, title: name, placeholder: "–" }));
    for (const each of hole) each.onchange = () => change({ hole: hole.map((one) => Number(one.value)) });
    const holeBox = row("hole (px)", h("span", { className: "ex5-four" }, ...hole.map((each) => h("label", {}, each.title, each))));
    const own = button("↺ task's own", "Leave λ_w to the recipe, which knows the task", () => change({ latent_weight: null }));
    const ownWords = h("div", { className: "ex5-note" });
    const another = button("Another answer", "A further face that fits what the photo shows (the next seed, pulled to somebody else)", () => send({ do: "another" }));
    const parameters = h("div", {}, ...Object.entries(about.ranges).map(([name, range]) => slider(name, range)), follows.box, holeBox);
    const seed = h("input", { type: "number", step: 1, min: 0, "aria-label": "seed" });
    seed.onchange = () => change({ seed: Number(seed.value || 0) });
    const panel = h("div", { className: "ex5-controls" },
        h("fieldset", {}, h("legend", {}, "Photo"), photoName,
            h("div", { className: "ex5-row" }, button("Upload …", "Choose a photo of a face from this computer", () => file.click()), sampled, file), faces, damaged.box),
        h("fieldset", {}, h("legend", {}, "What is done to it"),
            select("degradation", "degradation", Object.keys(about.degradations), (value) => { view.chosen = false; view.tool = "wipe"; change({ degradation: value }); }), parameters),
        h("fieldset", {}, h("legend", {}, "The search"),
            slider("latent_weight", { label: "weight λ_w", unit: "", min: about.weights[0], max: about.weights[1], log: true }), ownWords, own,
            select("recipe", "recipe", about.recipes, (value) => change({ recipe: value })),
            row("seed", seed, another)));

    // ——— Buttons, status, progress ———
    const buttons = {
        run: button("▶ Run", "Search with these settings", () => { view.tool = "wipe"; send({ do: "run" }); }, { className: "ex5-primary" }),
        stop: button("■ Stop", "End the search and keep the best image so far", () => send({ do: "stop" })),
        save: button("Save", "Save the result that is shown: images, figures, numbers, latent", () => send({ do: "save" })),
        download: button("Download", "Take the saved folder to this computer, as a ZIP file", () => send({ do: "download" })),
        reset: button("Reset", "Put all controls where they were at first; results are kept", () => { view.touched = {}; send({ do: "reset" }); }),
    };
    const status = h("div", { className: "ex5-status", role: "status" });
    const bar = h("progress", { max: 1, value: 0, "aria-label": "time" });
    const words = h("div", { className: "ex5-words" });
    const progress = h("div", { className: "ex5-progress" }, bar, words);

    // ——— The picture: a wipe of two, or the photo to paint on ———
    const under = h("img", { alt: "" });
    const over = h("img", { alt: "" });
    const brush = makeBrush(() => view.tool, (mask) => send({ do: "paint" }, mask));
    const tags = [h("span", { className: "ex5-tag ex5-tag-left" }), h("span", { className: "ex5-tag ex5-tag-right" })];
    const handle = h("div", { className: "ex5-handle", role: "slider", tabIndex: 0, "aria-label": "wipe between two pictures", "aria-valuemin": 0, "aria-valuemax": 100 });
    const busy = h("div", { className: "ex5-busy" }, "searching…");
    const stage = h("div", { className: "ex5-stage" }, under, over, brush.canvas, brush.cross, ...tags, handle, busy);
    function wipe(at) {
        view.at = Math.min(1, Math.max(0, at));
        over.style.clipPath = `inset(0 ${100 * (1 - view.at)}% 0 0)`;
        handle.style.left = `${100 * view.at}%`;
        handle.setAttribute("aria-valuenow", Math.round(100 * view.at));
    }
    const place = (event) => { const box = stage.getBoundingClientRect(); return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]; };
    stage.onpointerdown = (event) => {
        if (view.tool !== "wipe" || event.button) return;
        stage.setPointerCapture(event.pointerId);
        wipe(place(event)[0]);
        stage.onpointermove = (moved) => wipe(place(moved)[0]);
        stage.onpointerup = stage.onpointercancel = () => (stage.onpointermove = null);
        handle.focus({ preventScroll: true });
        event.preventDefault();
    };
    handle.onkeydown = (event) => {
        const to = { ArrowLeft: view.at - 0.05, ArrowRight: view.at + 0.05, Home: 0, End: 1 }[event.key];
        if (to !== undefined) { wipe(to); event.preventDefault(); event.stopPropagation(); }
    };

    const tools = ["wipe", "brush", "rectangle", "eraser"].map((name) =>
        button({ wipe: "◧ compare", brush: "● brush", rectangle: "▬ rectangle", eraser: "○ eraser" }[name], { wipe: "Compare two pictures" }[name] ?? `Paint on the photo what is to be filled in: ${name}`,
            () => { view.tool = name; drawStage(); }, { value: name }));
    const toolbar = h("div", { className: "ex5-tools" }, ...tools, brush.width,
        button("undo", "Take back the last stroke", brush.undo),
        button("clear", "Erase the whole mask", () => { if (view.tool === "wipe") view.tool = "brush"; brush.clear(); }));
    const thumbs = h("div", { className: "ex5-strip", role: "group", "aria-label": "pictures to compare" });
    const cards = Object.fromEntries(PICTURES.map((name) => {
        const show = (side) => { view.chosen = true; view.tool = "wipe"; view[side] = name; drawStage(); };
        const picture = h("img", { alt: name });
        const [left, right] = [["left", "◧"], ["right", "◨"]].map(([side, sign]) => button(sign, `${name} on the ${side}`, () => show(side), { "aria-label": `${name} on the ${side}` }));
        const face = button("", `Show: ${name}`, () => show("right"), { className: "ex5-thumb", tabIndex: -1 });
        face.append(picture);
        const card = h("div", { className: "ex5-card", hidden: true }, face, h("span", {}, name), h("span", { className: "ex5-sides" }, left, right));
        thumbs.append(card);
        return [name, { card, picture, left, right }];
    }));

    // ——— Curve, numbers, earlier results ———
    const curve = h("div", { className: "ex5-curve" });
    const table = h("div", { className: "ex5-numbers" });
    const past = h("div", { className: "ex5-strip", role: "group", "aria-label": "earlier results" });
    const pastBox = h("fieldset", { className: "ex5-past" }, h("legend", {}, "Results so far (choose one to go back to it and its settings)"), past);
    root.append(h("div", { className: "ex5-grid" },
        h("div", { className: "ex5-top" }, h("div", { className: "ex5-buttons" }, ...Object.values(buttons)), status, progress),
        panel,
        h("div", { className: "ex5-middle" }, stage, toolbar, thumbs),
        h("div", { className: "ex5-side" }, curve, table),
        pastBox));

    function drawCurve() {
        const { points, steps } = model.get("curve");
        curve.innerHTML = points?.length ? curveSvg(points, steps) : "";
        curve.append(h("div", { className: "ex5-note", hidden: !points?.length }, "Perceptual distance d to the target. At another size it is another measure."));
    }
    function drawNumbers() {
        const columns = model.get("numbers");
        table.replaceChildren(...(columns.length ? numbersTable(columns) : []));
    }

    // ——— Drawing ———
    const state = () => model.get("state");
    const has = (name) => model.get(name)?.byteLength > 0;
    function drawPicture(name) {
        const bytes = model.get(name);
        const old = urls[name];
        urls[name] = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : "";
        cards[name].card.hidden = !urls[name];
        if (urls[name]) cards[name].picture.src = urls[name];
        drawStage();
        if (old) setTimeout(() => URL.revokeObjectURL(old), 2000);
    }
    function drawStage() {
        const { choice, stale, phase } = state();
        if (!view.chosen) {
            view.right = has("composite") ? "composite" : has("result") ? "result" : "target";
            view.left = choice.degradation === "none" || view.right === "target" ? "photo" : "target";
        }
        for (const side of ["left", "right"]) if (!has(view[side])) view[side] = has("result") ? "result" : "photo";
        const painting = view.tool !== "wipe" && choice.degradation === "inpaint";
        stage.classList.toggle("ex5-painting", painting);
        under.src = urls[painting ? "photo" : view.right] || "";
        over.src = urls[view.left] || "";
        under.alt = view.right;
        over.alt = view.left;
        [over.alt, under.alt].forEach((title, i) => (tags[i].textContent = title));
        over.hidden = handle.hidden = painting;
        for (const tag of tags) tag.hidden = painting;
        under.classList.toggle("ex5-stale", !painting && stale.includes(view.right));
        over.classList.toggle("ex5-stale", stale.includes(view.left));
        busy.textContent = phase === "aligning" ? "looking for a face…" : "searching…";
        busy.hidden = painting || !(phase === "starting" || phase === "aligning");
        toolbar.hidden = choice.degradation !== "inpaint";
        for (const tool of tools) tool.setAttribute("aria-pressed", tool.value === view.tool);
        for (const [name, { card, left, right }] of Object.entries(cards)) {
            left.setAttribute("aria-pressed", view.left === name);
            right.setAttribute("aria-pressed", view.right === name);
            card.classList.toggle("ex5-stale", stale.includes(name));
        }
    }
    function drawState() {
        const { choice, phase, stale, own_weight, own: ownText, name, status: text, error, saved, shown, live } = state();
        const kinds = about.degradations[choice.degradation];
        for (const each of Object.keys(about.ranges)) controls[each].box.hidden = !kinds.includes(each);
        holeBox.hidden = !kinds.includes("hole");
        follows.box.hidden = !kinds.includes("sigma");
        for (const each of ["kernel_size", "factor", "quality", "noise_sigma", "degradation", "recipe"]) controls[each].set(choice[each]);
        controls.sigma.set(choice.sigma ?? Number((0.15 * choice.kernel_size + 0.35).toFixed(2)));
        controls.latent_weight.set(choice.latent_weight ?? Number(own_weight.toPrecision(3)));
        const { mark } = controls.latent_weight;
        controls.latent_weight.place(own_weight);
        mark.hidden = false;
        mark.title = ownText;
        mark.onclick = () => change({ latent_weight: null });
        ownWords.textContent = (choice.latent_weight === null ? "" : "▾ ") + ownText;
        own.hidden = choice.latent_weight === null;
        follows.set(choice);
        damaged.set(choice);
        if (isFree("hole")) hole.forEach((each, i) => { if (document.activeElement !== each) each.value = choice.hole ? choice.hole[i] : ""; });
        if (isFree("seed") && document.activeElement !== seed) seed.value = choice.seed;
        another.textContent = choice.answer ? `Another answer (this is ${choice.answer + 1})` : "Another answer";
        photoName.textContent = name;
        const searching = ["starting", "searching"].includes(phase);
        buttons.run.disabled = searching || phase === "aligning";
        buttons.stop.disabled = !searching;
        buttons.save.disabled = shown === null;
        buttons.download.hidden = !saved;
        status.textContent = view.problem || text;
        status.classList.toggle("ex5-error", error || Boolean(view.problem));
        root.dataset.phase = phase;
        root.dataset.live = live;
        table.classList.toggle("ex5-stale", stale.length > 0);
        for (const each of past.children) each.setAttribute("aria-pressed", each.value === String(shown));
        drawStage();
    }
    function drawProgress() {
        const { share = 0, words: text = "" } = model.get("progress");
        bar.value = share;
        words.textContent = text;
        progress.classList.toggle("ex5-idle", !text);
    }
    function drawHistory() {
        const history = model.get("history");
        pastBox.hidden = !history.length;
        past.replaceChildren(...history.map(({ number, picture, words: text, short }) => {
            const card = button("", text, () => { view.touched = {}; view.chosen = false; send({ do: "restore", number }); }, { className: "ex5-thumb", value: String(number), "aria-label": `Result ${text}` });
            card.append(h("img", { src: picture, alt: "" }), h("b", { textContent: number }), ...short.map((line) => h("span", { textContent: line })));
            return card;
        }));
        drawState();
    }
    function drawFaces() {
        faces.replaceChildren(...model.get("faces").map(({ picture, words: text }, i) => {
            const card = button("", `Take this face ${text}`, () => send({ do: "pick", face: i }), { className: "ex5-thumb", "aria-label": `face ${i + 1} ${text}` });
            card.append(h("img", { src: picture, alt: "" }));
            return card;
        }));
        faces.hidden = !faces.childElementCount;
    }
    const drawMask = () => brush.draw(model.get("mask"));
    const answered = () => { clearTimeout(waiting); view.problem = ""; };

    // ——— Listening ———
    const stopListening = [];
    function listen(event, handler) {
        model.on(event, handler);
        stopListening.push(() => model.off(event, handler));
    }
    listen("change:state", () => { answered(); drawState(); });
    listen("change:progress", drawProgress);
    listen("change:curve", drawCurve);
    listen("change:numbers", drawNumbers);
    listen("change:history", drawHistory);
    listen("change:faces", drawFaces);
    listen("change:mask", drawMask);
    for (const name of PICTURES) listen(`change:${name}`, () => drawPicture(name));
    listen("msg:custom", (message, buffers) => {
        answered();
        if (message.archive) {
            const link = h("a", { href: URL.createObjectURL(new Blob([buffers[0]], { type: "application/zip" })), download: message.archive });
            link.click();
            setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
        }
        if (message.problem) problem(message.problem);
    });

    // A notebook's theme is not the browser's: what counts is whether the text around here is light.
    function theme() {
        const [r, g, b] = getComputedStyle(el.parentElement ?? document.body).color.match(/[\d.]+/g).map(Number);
        root.dataset.theme = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "dark" : "light";
    }
    const themes = new MutationObserver(() => requestAnimationFrame(theme));
    themes.observe(document.body, { attributes: true });
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", theme);

    wipe(0.5);
    theme();
    for (const name of PICTURES) drawPicture(name);
    for (const draw of [drawCurve, drawMask, drawFaces, drawNumbers, drawHistory, drawProgress, drawState]) draw();
    send({ do: "greet" });
    const settled = setInterval(() => { if (!queued) drawState(); }, 1000); // a control that was the user's takes the true value
    return () => {
        stopListening.forEach((stop) => stop());
        themes.disconnect();
        scheme.removeEventListener("change", theme);
        clearTimeout(waiting);
        clearInterval(settled);
        Object.values(urls).forEach((url) => url && URL.revokeObjectURL(url));
    };
}

export default { render };
