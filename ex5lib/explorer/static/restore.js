// The page's first mode: a photo in, the whole photo restored out. It draws what Restoring puts on its board.

const EXAMPLES = [ // made by scripts/examples.py
    { name: "crease", ratio: 620 / 720, words: "Out of focus, with a crease" },
    { name: "print", ratio: 512 / 600, words: "A black-and-white print" },
    { name: "blur", ratio: 1, words: "A blurred photo" },
];
const STEPS = [
    "Choose a photo with a face that is blurred, scratched, faded, small or without colours.",
    "See what was found wrong with it. Switch off what is no damage, and mark scratches that were missed.",
    "Press Restore, and watch the face appear. It takes a minute or more.",
];
const ALIKE = "How far apart two descriptions of the face are, that of the photo as it was and that of the restored one, "
    + "by dlib's face recognition (identity distance). Below 0.6 it takes them for the same person. The more damage "
    + "there is, the less this number says.";

function renderRestoring({ model, el }) {
    const state = () => model.get("state");
    // The photo as this browser has it, and what was drawn last.
    const local = { source: "", ratio: 0, example: 0, problem: "", live: "", shown: null, searching: false };
    const send = (message, data) => model.send(message, undefined, data ? [data] : []);
    const sent = (action, file) => {
        local.problem = sendFile(send, action, file, model.get("about").max_upload);
        draw();
    };
    const viewer = makeViewer({
        paint: (stroke, mask) => send({ do: "paint", stroke, photo: state().photo }, mask),
        upload: (file) => sent("mask", file),
        name: () => state().name,
        redraw: () => draw(),
        done: () => asking.mark.focus(),
    });

    function take(file) {
        if (local.source) URL.revokeObjectURL(local.source);
        Object.assign(local, { source: URL.createObjectURL(file), ratio: 0, problem: "" });
        const probe = new Image(); // some kinds of photo only the program can read
        probe.onload = () => {
            local.ratio = probe.naturalWidth / probe.naturalHeight;
            draw();
        };
        probe.src = local.source;
        viewer.whole();
        sent("upload", file);
    }

    const asking = makeAsking(send, take, viewer.begin);
    const steps = h("ol", { className: "steps" }, ...STEPS.map((text) => h("li", {}, text)));
    const restore = button("Restore", "Restore the photo", () => {
        viewer.pick("compare");
        send({ do: "restore" });
    }, { className: "primary" });
    const stop = button("Stop", "Keep the best face so far", () => send({ do: "stop" }));
    const status = h("div", { className: "status", role: "status" });
    const bar = h("progress", { max: 1, value: 0, "aria-label": "progress" });
    const words = h("div", { className: "soft" });
    const actions = h("div", { className: "actions" }, h("div", { className: "buttons" }, restore, stop, status), bar, words);

    const alike = h("span");
    const alikeRow = h("div", { className: "switch" }, h("span", { className: "choice" }, alike), help("same person", ALIKE));
    const also = h("p", { className: "soft" });
    const another = button("Another answer", "Search again, with other random numbers (the next seed)",
        () => send({ do: "another" }));
    const get = (suffix) => h("a", { className: "button", href: model.address("photo", { as: suffix }), download: "" });
    const downloads = ["jpg", "png"].map((suffix) => {
        const link = get(suffix);
        link.textContent = suffix === "jpg" ? "Download photo" : "as PNG, without loss";
        link.classList.toggle("primary", suffix === "jpg");
        return link;
    });
    const past = h("div", { className: "buttons", role: "group", "aria-label": "answers" });
    const drawPast = redrawn(past, ({ answers, shown }) => answers.length < 2 ? [] : answers.map((number, i) =>
        button(`Answer ${i + 1}`, "Show this answer again", () => send({ do: "show", number }),
            { "aria-pressed": String(number === shown) })));
    const result = h("div", { className: "result" },
        h("div", { className: "buttons" }, ...downloads, another), past, alikeRow, also);

    const cards = EXAMPLES.map(({ name, words: text }, i) => {
        const card = button("", `Show the example: ${text}`, () => {
            local.example = i;
            viewer.whole();
            viewer.wipe(0.5);
            draw();
        }, { className: "example" });
        const halves = ["before", "after"].map((side) => h("img", { src: model.address(`${name}-${side}.jpg`), alt: "" }));
        card.append(h("span", { className: "halves" }, ...halves), h("span", {}, text));
        return card;
    });
    const examples = h("div", { className: "examples" }, h("h2", {}, "Finished examples"), h("div", {}, ...cards));

    const root = h("div", { className: "restore" },
        h("div", { className: "ask" }, asking.box, steps, actions), h("div", { className: "see" }, viewer.box, result, examples));
    el.append(root);

    function drawPhoto(now) {
        const { phase, photo, width, height } = now;
        const picture = (name) => model.address("picture", { name });
        if (!photo) {
            const looking = phase === "looking";
            const failed = now.error || local.problem;
            if (looking || failed) {
                viewer.show({
                    before: local.ratio ? local.source : "", after: "", ratio: local.ratio || 1.5, faded: true,
                    text: looking ? "Looking for faces …" : local.problem || now.status,
                });
            } else {
                const { name, ratio, words: text } = EXAMPLES[local.example];
                const [before, after] = ["before", "after"].map((side) => model.address(`${name}-${side}.jpg`));
                viewer.show({ before, after, ratio, alts: [`${text}, as it was`, `${text}, restored`] });
            }
            viewer.outline([]);
            return;
        }
        const before = picture("before") + `&photo=${photo}`;
        const searching = ["searching", "finishing"].includes(phase);
        const shown = viewer.paints() ? null : now.shown;
        const ratio = width / height;
        if (searching) {
            viewer.show({ before: local.live || before, after: "", ratio, alts: ["The photo, with the face found so far"] });
        } else viewer.show({ before, after: shown === null ? "" : picture(shown), ratio });
        const isChosen = (face, i) => (now.face === null ? face.sure : now.face === i);
        viewer.outline(shown === null && !searching
            ? now.faces.map((face, i) => ({ corners: face.corners, chosen: isChosen(face, i) })) : []);
    }
    function draw() {
        const now = state();
        const searching = ["searching", "finishing"].includes(now.phase);
        if (now.shown !== local.shown) viewer.wipe(0.5);
        if (searching && !local.searching) viewer.box.scrollIntoView({ block: "nearest" }); // on a phone it is far up
        Object.assign(local, { shown: now.shown, searching });
        if (now.phase !== "ready" && viewer.paints()) return viewer.pick("compare"); // which draws
        asking.draw(now);
        const old = now.shown === null && !searching; // what is seen is the photo as it was
        viewer.mask({
            photo: now.photo, size: now.mask_size, stroke: now.stroke, bits: model.get("mask"), empty: !now.marked,
            marked: now.marked && old,
            damage: now.found_mask && (old || viewer.paints())
                ? `${model.address("picture", { name: "damage" })}&of=${now.found_mask}` : "",
        });
        drawPhoto(now);
        actions.hidden = !now.photo && !now.status && !local.problem;
        restore.hidden = searching || !now.photo;
        restore.disabled = now.settled || now.phase !== "ready";
        restore.textContent = now.settled ? "Restored" : "Restore";
        stop.hidden = !searching;
        stop.disabled = now.phase === "finishing";
        status.textContent = local.problem || now.status;
        status.classList.toggle("error", now.error || Boolean(local.problem));
        bar.hidden = words.hidden = !searching;
        result.hidden = now.shown === null || searching || viewer.paints();
        downloads[0].href = `${model.address("photo", { as: "jpg" })}&answer=${now.shown}`;
        drawPast({ answers: now.answers, shown: now.shown });
        alike.textContent = `Same person: ${now.alike.join(", ")}`;
        also.textContent = [now.found.length ? `Found with it: ${now.found.join("; ")}.` : "", now.note].join(" ").trim();
        also.hidden = !also.textContent;
        steps.hidden = Boolean(now.photo);
        examples.hidden = Boolean(now.photo) || now.phase === "looking";
        cards.forEach((card, i) => card.setAttribute("aria-pressed", i === local.example && !now.photo));
        root.dataset.phase = now.phase;
    }
    function drawLive() {
        const bytes = model.get("live");
        const old = local.live;
        local.live = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : "";
        draw();
        if (old) setTimeout(() => URL.revokeObjectURL(old), 2000); // it may still be in use
    }
    function drawProgress() {
        const { share = 0, words: text = "" } = model.get("progress");
        bar.value = share;
        words.textContent = text;
    }
    model.on("change:state", () => {
        local.problem = "";
        draw();
    });
    model.on("change:live", drawLive);
    model.on("change:progress", drawProgress);
    model.on("msg:custom", (message) => {
        local.problem = message.problem ?? "";
        draw();
    });
    drawLive();
    drawProgress();
    return { take };
}

export default { render: renderRestoring };
