// The first mode's picture: the photo before and after under a wipe, or the photo alone, to be painted on.

// The painted mask is sent by `paint(stroke, mask)`, a file with one by `upload(file)`; `name()` is the photo's. `done`
// is called when the user has done with painting.
function makeViewer({ paint, upload, name, redraw, done: left }) {
    const marks = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [key, value] of [["viewBox", "0 0 1 1"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) {
        marks.setAttribute(key, value);
    }
    const tags = ["Before", "After"].map((text) => h("span", { className: `tag ${text.toLowerCase()}` }, text));
    const words = h("span");
    const over = h("div", { className: "over" }, words);
    const found = h("img", { className: "found", alt: "", draggable: false });
    const view = { tool: "compare" };
    const seen = { x: 0, y: 0, side: 1 };
    let painted = -1; // the photo that the strokes belong to
    let drawn = {}; // the mask that was
    let strokes = 0; // a mask from before the last stroke is not drawn: it would undo that stroke
    const painting = makePainting({
        view, seen, upload, name,
        paint: (mask) => paint(++strokes, mask),
        draw: () => redraw(),
    });
    const { brush } = painting;
    const stage = makeStage({
        seen, onPictures: [found, marks, brush.canvas], onStage: [brush.outline, ...tags, over], moved: brush.follow,
        most: () => Math.max(16, (4 * stage.under.naturalWidth) / (stage.box.clientWidth || 1)),
        isPainting: painting.isOn, began: brush.abandon,
    });
    const done = button("✓ Done", "Done with painting", () => {
        painting.pick("compare");
        left();
    }, { className: "primary" });
    const whilePainting = [done, ...painting.tools, ...painting.others];
    const bar = h("div", { className: "ex5-tools" }, ...whilePainting, painting.file, ...stage.buttons);
    const hint = h("p", { className: "soft" }, "Paint over scratches and stains inside the outline: they are replaced, the rest "
        + "is kept. What was found already is blue, and is switched off where the damage is listed.");
    const keys = h("p", { className: "soft keys" });
    const box = h("div", { className: "viewer" }, stage.box, bar, hint, keys);
    box.addEventListener("keydown", (event) => {
        const meant = painting.isOn() && painting.key(event);
        if (meant || !(event.ctrlKey || event.metaKey || bar.hidden || !stage.key(event))) event.preventDefault();
    });

    function load(image, source) {
        if (!source) image.removeAttribute("src");
        else if (image.getAttribute("src") !== source) image.src = source;
        image.hidden = !source;
    }
    return {
        box, wipe: stage.wipe, whole: stage.whole, paints: painting.isOn,
        pick: (tool) => painting.pick(tool),
        begin() { // to paint
            painting.pick("brush");
            box.scrollIntoView({ block: "nearest" });
            brush.canvas.focus({ preventScroll: true });
        },
        // `before` and `after` are addresses, empty if there is none; a wipe needs both. `ratio` is width by height.
        show({ before, after, ratio, text = "", faded = false, alts = ["The photo as it was", "The restored photo"] }) {
            const paints = painting.isOn();
            const both = Boolean(after) && !paints;
            load(stage.under, both ? after : before);
            load(stage.over, both ? before : "");
            [stage.over.alt, stage.under.alt] = both ? alts : ["", alts[0]];
            for (const each of [stage.handle, ...tags]) each.hidden = !both;
            for (const each of whilePainting) each.hidden = !paints;
            bar.hidden = !before || faded;
            hint.hidden = !paints;
            keys.hidden = !both && !paints;
            keys.textContent = paints
                ? "Ctrl+Z takes a stroke back, [ and ] change the brush, which is finer in a larger picture (+)."
                : "Drag the line, or use the arrow keys. Zoom with + and −, two fingers, or the wheel; then drag to move.";
            stage.box.classList.toggle("ex5-painting", paints);
            stage.box.classList.toggle("faded", faded);
            stage.box.classList.toggle("blank", !before);
            stage.box.classList.toggle("single", !both);
            if (ratio) stage.box.style.setProperty("--ratio", ratio);
            words.textContent = text;
            over.hidden = !text;
            stage.wipe();
        },
        // Outlines of faces: their corners in shares of the photo's sides, and whether each is chosen.
        outline(faces) {
            marks.innerHTML = faces.map(({ corners, chosen }) =>
                `<polygon class="${chosen ? "chosen" : ""}" points="${corners.map((at) => at.join()).join(" ")}"/>`).join("");
        },
        // The mask of a photo, as the program has it; `marked` says whether it is to be seen. `damage` is the address of
        // a picture of what was found to be damaged; empty if there is none to be seen.
        mask({ photo, size, stroke, bits, empty, marked, damage }) {
            load(found, damage);
            if (painted !== photo) {
                painted = photo;
                strokes = stroke;
                view.tool = "compare";
                drawn = {};
                brush.begin(...size);
            }
            if (stroke >= strokes && (bits !== drawn.bits || stroke !== drawn.stroke)) { // or that one was refused
                brush.draw(bits);
                drawn = { bits, stroke };
            }
            strokes = Math.max(strokes, stroke);
            painting.draw(empty);
            stage.box.classList.toggle("marked", marked);
        },
    };
}
