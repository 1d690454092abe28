// The picture: a wipe between any two, or the photo with the painted mask; below it, the tools.

// What the pages call them, and what they are.
const PICTURES = {
    photo: ["photo", "The face as it was cut out of the photo."],
    target: ["damaged", "The target: the photo after the damage, which the search tries to match."],
    result: ["face found", "The result: a face of the generator that looks like the target when it is damaged alike."],
    composite: ["restored", "The composite: the face found where something was missing, and the photo everywhere else."],
    previous: ["last result", "What was shown before this result, to compare with."],
};
const HOW = [
    ["closer", "With two fingers, the wheel, + and −; 0 shows the whole. Drag beside the line, or press Shift and the "
        + "arrows, to move."],
    ["painting", "[ and ] change the brush. Ctrl+Z takes a stroke back, Ctrl+Shift+Z paints it again. Without a mouse, the "
        + "arrows move the brush, and the space bar paints."],
];
const TOOLS = { compare: "◧ compare", brush: "● brush", rectangle: "▬ rectangle", eraser: "○ eraser" };
const PAINTING = ["brush", "rectangle", "eraser"];

function stopPainting(view) {
    view.tool = "compare";
}

function makePicture({ view, send, upload, state, model }) {
    const urls = {};
    const seen = { x: 0, y: 0, side: 1 }; // the part of the picture on the stage
    const under = h("img", { alt: "" });
    const over = h("img", { alt: "" });
    const tags = ["left", "right"].map((side) => {
        const options = Object.entries(PICTURES).map(([name, [words]]) => new Option(words, name));
        const tag = h("select", { className: `ex5-tag ex5-tag-${side}` }, ...options);
        tag.ariaLabel = `picture on the ${side}`;
        tag.onchange = () => {
            Object.assign(view, { chosen: true, [side]: tag.value });
            draw();
        };
        return tag;
    });
    const busy = h("div", { className: "ex5-busy" });
    const handle = h("div", {
        className: "ex5-handle", role: "slider", tabIndex: 0, "aria-label": "wipe between two pictures",
        "aria-valuemin": 0, "aria-valuemax": 100,
    });
    const painting = () => PAINTING.includes(view.tool);
    let strokes = 0; // a mask from before the last stroke is not drawn: it would undo that stroke
    const brush = makeBrush(() => view.tool, seen, (mask) => {
        strokes = Math.max(strokes, state().stroke) + 1;
        send({ do: "paint", stroke: strokes }, mask);
        draw();
    });
    const layer = h("div", { className: "ex5-layer" }, under, over, brush.canvas);
    const stage = h("div", { className: "ex5-stage" }, layer, brush.outline, handle, ...tags, busy);
    let later = null;
    const zoom = makeZoom(stage, layer, seen, () => {
        wipe(view.at);
        brush.follow();
        draw();
        later ??= setTimeout(() => { // no more often than the kernel can draw it
            later = null;
            const half = seen.side / 2;
            send({ do: "look", x: seen.x + half, y: seen.y + half, side: seen.side });
        }, OFTEN);
    }, () => {
        brush.abandon();
        stage.onpointermove = null;
    });

    function wipe(at) {
        view.at = Math.min(1, Math.max(0, at));
        const share = 100 * (seen.x + view.at * seen.side); // of the whole picture
        over.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
        under.style.clipPath = painting() ? "" : `inset(0 0 0 ${share}%)`;
        handle.style.left = `${100 * view.at}%`;
        handle.setAttribute("aria-valuenow", Math.round(100 * view.at));
    }
    function wipeTo(event) {
        const box = stage.getBoundingClientRect();
        wipe((event.clientX - box.left) / box.width);
    }
    stage.onpointerdown = (event) => {
        if (painting() || event.button || event.target.closest("select")) return;
        stage.setPointerCapture(event.pointerId);
        handle.focus({ preventScroll: true });
        event.preventDefault();
        if (seen.side < 1 && event.target !== handle) { // there, the handle wipes, and everything else moves
            let last = event;
            stage.onpointermove = (moved) => {
                const { width } = stage.getBoundingClientRect();
                zoom.pan((moved.clientX - last.clientX) / width, (moved.clientY - last.clientY) / width);
                last = moved;
            };
            return;
        }
        let scrolling = event.pointerType === "touch"; // perhaps: until the finger moves sideways, or is lifted
        if (!scrolling) wipeTo(event);
        stage.onpointermove = (moved) => {
            scrolling &&= moved.type === "pointermove" && Math.abs(moved.clientX - event.clientX) < 8;
            if (!scrolling) wipeTo(moved);
        };
    };
    stage.onpointerup = (event) => {
        stage.onpointermove?.(event);
        stage.onpointermove = null;
    };
    stage.onpointercancel = () => (stage.onpointermove = null);
    handle.onkeydown = (event) => {
        const to = { ArrowLeft: view.at - 0.05, ArrowRight: view.at + 0.05, Home: 0, End: 1 }[event.key];
        if (to === undefined) return;
        wipe(to);
        event.preventDefault();
        event.stopPropagation(); // notebooks use the arrow keys, too
    };

    function pick(tool) {
        view.tool = tool;
        draw();
    }
    const tools = Object.entries(TOOLS).map(([tool, words]) => {
        const title = tool === "compare" ? "Compare two pictures" : `Paint what is to be replaced: ${tool}`;
        return button(words, title, () => pick(tool), { value: tool });
    });
    const [compare, paint, ...others] = tools;
    const undo = button("undo", "Take the last stroke back: Ctrl+Z", brush.undo);
    const redo = button("redo", "Paint it again: Ctrl+Shift+Z", brush.redo);
    const clear = button("clear", "Erase the whole mask", brush.clear);
    const size = h("label", { className: "ex5-size" }, "size", brush.width);
    const file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "mask file" });
    file.onchange = () => {
        if (file.files[0]) upload(file.files[0], "mask");
        file.value = "";
    };
    const open = button("open mask …", "Take a mask from a file: white is removed, black is kept", () => file.click());
    const save = button("save mask", "Save the mask as a PNG file, white where the photo is removed",
        () => brush.file((content) => offer(content, `${state().name.replace(/\.\w+$/, "")}-mask.png`)));
    const whilePainting = [...others, undo, redo, clear, size, open, save];
    const closer = button("+", "Zoom in: +, or the wheel", () => zoom.zoom(1.5), { "aria-label": "zoom in" });
    const farther = button("−", "Zoom out: −, or the wheel", () => zoom.zoom(1 / 1.5), { "aria-label": "zoom out" });
    const whole = button("whole", "Show the whole picture: 0", zoom.whole);
    const download = button("⤓ PNG", "Download the picture on the right at full size",
        () => send({ do: "download", picture: painting() ? "photo" : view.right }));
    const toolbar = h("div", { className: "ex5-tools" },
        compare, paint, ...whilePainting, file, farther, closer, whole, download);
    const meanings = explained("What these pictures are, and how to move and paint", [...Object.values(PICTURES), ...HOW]);

    const box = h("div", { className: "ex5-middle" }, stage, toolbar, meanings);
    box.addEventListener("keydown", (event) => {
        if (event.target.closest("select, summary")) return;
        const key = event.key.toLowerCase();
        const command = (event.ctrlKey || event.metaKey) && !event.altKey; // with Alt, some keyboards type a [
        const again = key === "y" || event.shiftKey;
        if (command && "zy".includes(key) && painting()) (again ? brush.redo : brush.undo)();
        else if (command) return;
        else if ("[]".includes(key) && painting()) brush.resize(key === "[" ? 0.8 : 1.25);
        else if (!zoom.key(event)) return;
        event.preventDefault();
        event.stopPropagation(); // a notebook has other uses for these keys
    }, { capture: true });

    const has = (name) => Boolean(urls[name]);
    let painted = ""; // the face that the strokes belong to
    function load(name) {
        const bytes = model.get(name);
        const old = urls[name];
        urls[name] = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : "";
        if (old) setTimeout(() => URL.revokeObjectURL(old), 2000); // it may still be in use
        draw();
    }
    function draw() {
        const { choice, reads, stale, phase, unpainted } = state();
        const paintable = reads.includes("hole");
        if (choice.photo !== painted) {
            painted = choice.photo;
            brush.forget();
        }
        if (!view.chosen) {
            view.right = ["composite", "result"].find(has) ?? "target";
            view.left = choice.degradation === "none" || view.right === "target" ? "photo" : "target";
        }
        if (!has(view.left)) view.left = "photo";
        if (!has(view.right)) view.right = has("result") ? "result" : "target";
        if (!paintable) stopPainting(view);
        else if (unpainted && !view.invited) view.tool = "brush";
        view.invited = paintable && unpainted; // once: then it is up to the user
        const now = painting();
        stage.classList.toggle("ex5-painting", now);
        stage.classList.toggle("ex5-zoomed", seen.side < 1);
        const shown = now ? "photo" : view.right;
        Object.assign(under, { src: urls[shown] ?? "", alt: PICTURES[shown][0] });
        Object.assign(over, { src: urls[view.left] ?? "", alt: PICTURES[view.left][0] });
        under.classList.toggle("ex5-stale", !now && stale.includes(view.right));
        over.classList.toggle("ex5-stale", stale.includes(view.left));
        wipe(view.at);
        tags.forEach((tag, i) => {
            for (const option of tag.options) {
                const [words] = PICTURES[option.value];
                option.hidden = option.disabled = !has(option.value);
                option.textContent = stale.includes(option.value) ? `${words} (earlier)` : words;
            }
            tag.value = [view.left, view.right][i];
        });
        for (const each of [over, handle, ...tags]) each.hidden = now;
        if (!now) brush.rest();
        const searching = phase === "starting" || phase === "searching";
        busy.textContent = phase === "aligning" ? "looking for a face…" : "searching…";
        busy.hidden = now || !["starting", "aligning"].includes(phase);
        paint.hidden = !paintable;
        for (const each of whilePainting) each.hidden = !now;
        undo.disabled = !brush.canUndo();
        redo.disabled = !brush.canRedo();
        save.disabled = unpainted;
        farther.disabled = whole.disabled = seen.side === 1;
        closer.disabled = seen.side <= 1 / MOST;
        download.disabled = searching && !["photo", "target"].includes(shown); // not before it is whole
        for (const tool of tools) tool.setAttribute("aria-pressed", tool.value === view.tool);
    }
    wipe(0.5);
    return {
        box, load, draw,
        drawMask: () => state().stroke >= strokes && brush.draw(model.get("mask")),
        forget: () => Object.values(urls).forEach((url) => url && URL.revokeObjectURL(url)),
    };
}
