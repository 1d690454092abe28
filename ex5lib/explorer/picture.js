// The picture: a wipe between any two, or the photo with the painted mask; below it, the tools and the strip.

const PICTURES = ["photo", "target", "result", "composite", "previous"];
const SIDES = { left: "◧", right: "◨" };
const TOOLS = {
    compare: "◧ compare", magnify: "⌕ magnify", brush: "● brush", rectangle: "▬ rectangle", eraser: "○ eraser",
};
const PAINTING = ["brush", "rectangle", "eraser"];

function stopPainting(view) {
    if (PAINTING.includes(view.tool)) view.tool = "compare";
}

function makePicture({ view, send, state, model }) {
    const urls = {};
    const under = h("img", { alt: "" });
    const over = h("img", { alt: "" });
    const tags = ["left", "right"].map((side) => h("span", { className: `ex5-tag ex5-tag-${side}` }));
    const busy = h("div", { className: "ex5-busy" });
    const handle = h("div", {
        className: "ex5-handle", role: "slider", tabIndex: 0, "aria-label": "wipe between two pictures",
        "aria-valuemin": 0, "aria-valuemax": 100,
    });
    let strokes = 0; // a mask from before the last stroke is not drawn: it would undo that stroke
    const brush = makeBrush(() => view.tool, (mask) => {
        strokes = Math.max(strokes, state().stroke) + 1;
        send({ do: "paint", stroke: strokes }, mask);
    });
    const closeUp = h("img", { alt: "a part of the result at full resolution" });
    const lens = h("div", { className: "ex5-lens", hidden: true, tabIndex: 0 }, closeUp);
    lens.setAttribute("aria-label", "magnifier: move it with the arrow keys");
    const stage = h("div", { className: "ex5-stage" },
        under, over, brush.canvas, brush.cross, ...tags, handle, lens, busy);

    function wipe(at) {
        view.at = Math.min(1, Math.max(0, at));
        over.style.clipPath = `inset(0 ${100 * (1 - view.at)}% 0 0)`;
        under.style.clipPath = PAINTING.includes(view.tool) ? "" : `inset(0 0 0 ${100 * view.at}%)`;
        handle.style.left = `${100 * view.at}%`;
        handle.setAttribute("aria-valuenow", Math.round(100 * view.at));
    }
    function wipeTo(event) {
        const box = stage.getBoundingClientRect();
        wipe((event.clientX - box.left) / box.width);
    }
    const looked = { x: 0.5, y: 0.5, later: null, fresh: false }; // where; the timer of a message; whether just begun
    function look(x, y) {
        Object.assign(looked, { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) });
        lens.style.left = `${100 * looked.x}%`;
        lens.style.top = `${100 * looked.y}%`;
        if (looked.later) return;
        looked.later = setTimeout(() => { // no more often than the kernel can draw it
            looked.later = null;
            if (view.tool === "magnify") send({ do: "look", x: looked.x, y: looked.y });
        }, OFTEN);
    }
    function lookTo(event) {
        const box = stage.getBoundingClientRect();
        look((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }
    lens.onkeydown = (event) => {
        const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        if (!moves[event.key]) return;
        const [right, down] = moves[event.key];
        look(looked.x + 0.02 * right, looked.y + 0.02 * down);
        event.preventDefault();
        event.stopPropagation();
    };
    stage.addEventListener("pointermove", (event) => view.tool === "magnify" && lookTo(event));
    stage.onpointerdown = (event) => {
        if (view.tool === "magnify") {
            stage.setPointerCapture(event.pointerId); // a finger would otherwise let go of it
            return lookTo(event);
        }
        if (view.tool !== "compare" || event.button) return;
        stage.setPointerCapture(event.pointerId);
        let scrolling = event.pointerType === "touch"; // perhaps: until the finger moves sideways, or is lifted
        if (!scrolling) wipeTo(event);
        stage.onpointermove = (moved) => {
            scrolling &&= Math.abs(moved.clientX - event.clientX) < 8;
            if (!scrolling) wipeTo(moved);
        };
        handle.focus({ preventScroll: true });
        event.preventDefault();
    };
    stage.onpointerup = (event) => {
        if (stage.onpointermove) wipeTo(event);
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
        if (view.tool === "magnify" && tool !== "magnify") send({ do: "look", x: null, y: null });
        view.tool = tool;
        draw();
        if (tool !== "magnify") return;
        looked.fresh = true;
        look(looked.x, looked.y);
    }
    const tools = Object.entries(TOOLS).map(([tool, words]) => {
        const title = {
            compare: "Compare two pictures",
            magnify: "Point at a part of the result to see it at full resolution",
        }[tool] ?? `Paint what to fill in: ${tool}`;
        return button(words, title, () => pick(tool), { value: tool });
    });
    const undo = button("undo", "Undo the last stroke", brush.undo);
    const clear = button("clear", "Erase the whole mask", () => {
        if (!PAINTING.includes(view.tool)) pick("brush");
        brush.clear();
    });
    const size = h("label", { className: "ex5-size" }, "size", brush.width);
    const toPaint = [...tools.filter((each) => PAINTING.includes(each.value)), undo, clear, size];
    const toolbar = h("div", { className: "ex5-tools" }, ...tools, undo, clear, size);

    const strip = h("div", { className: "ex5-strip", role: "group", "aria-label": "pictures to compare" });
    const cards = Object.fromEntries(PICTURES.map((name) => {
        function show(side) {
            view.chosen = true;
            view[side] = name;
            pick("compare");
        }
        const sides = Object.entries(SIDES).map(([side, sign]) => {
            const words = `${name} on the ${side}`;
            return button(sign, words, () => show(side), { value: side, "aria-label": words });
        });
        const face = thumbnail("", `Show: ${name}`, () => show("right"), { tabIndex: -1 });
        const both = h("span", { className: "ex5-sides" }, ...sides);
        const card = h("div", { className: "ex5-card", hidden: true }, face, h("span", {}, name), both);
        strip.append(card);
        return [name, { card, sides, image: face.firstChild }];
    }));

    const has = (name) => Boolean(urls[name]);
    function load(name) {
        const bytes = model.get(name);
        const old = urls[name];
        urls[name] = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : "";
        cards[name].card.hidden = !urls[name];
        if (urls[name]) cards[name].image.src = urls[name];
        if (name === "photo") brush.forget(); // strokes belong to their photo
        if (old) setTimeout(() => URL.revokeObjectURL(old), 2000); // it may still be in use
        draw();
    }
    function draw() {
        const { choice, reads, stale, phase } = state();
        const paintable = reads.includes("hole");
        if (!view.chosen) {
            view.right = ["composite", "result"].find(has) ?? "target";
            view.left = choice.degradation === "none" || view.right === "target" ? "photo" : "target";
        }
        if (!has(view.left)) view.left = "photo";
        if (!has(view.right)) view.right = has("result") ? "result" : "target";
        if (!paintable) stopPainting(view);
        const painting = PAINTING.includes(view.tool);
        const magnifying = view.tool === "magnify";
        stage.classList.toggle("ex5-painting", painting);
        const shown = painting ? "photo" : view.right;
        Object.assign(under, { src: urls[shown] ?? "", alt: shown });
        Object.assign(over, { src: urls[view.left] ?? "", alt: view.left });
        under.classList.toggle("ex5-stale", !painting && stale.includes(view.right));
        over.classList.toggle("ex5-stale", stale.includes(view.left));
        wipe(view.at);
        [view.left, view.right].forEach((name, i) => {
            tags[i].textContent = stale.includes(name) ? `${name} (earlier)` : name;
        });
        for (const each of [over, handle, ...tags]) each.hidden = painting;
        busy.textContent = phase === "aligning" ? "looking for a face…" : "searching…";
        busy.hidden = painting || !["starting", "aligning"].includes(phase);
        for (const each of toPaint) each.hidden = !paintable;
        lens.hidden = !magnifying || !model.get("lens")?.byteLength;
        stage.classList.toggle("ex5-magnifying", magnifying);
        for (const tool of tools) tool.setAttribute("aria-pressed", tool.value === view.tool);
        for (const [name, { card, sides }] of Object.entries(cards)) {
            for (const side of sides) side.setAttribute("aria-pressed", view[side.value] === name);
            card.classList.toggle("ex5-stale", stale.includes(name));
        }
    }
    wipe(0.5);
    return {
        box: h("div", { className: "ex5-middle" }, stage, toolbar, strip),
        load, draw,
        drawLens() {
            const bytes = model.get("lens");
            const old = closeUp.src;
            if (bytes?.byteLength) closeUp.src = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
            if (old) setTimeout(() => URL.revokeObjectURL(old), 2000);
            draw();
            if (looked.fresh && !lens.hidden) lens.focus({ preventScroll: true }); // for the arrow keys
            looked.fresh &&= lens.hidden;
        },
        drawMask: () => state().stroke >= strokes && brush.draw(model.get("mask")),
        forget: () => Object.values(urls).forEach((url) => url && URL.revokeObjectURL(url)),
    };
}
