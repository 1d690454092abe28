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
    PAINTING_WORDS,
];
const CLOSEST = 8; // times larger
const MASK_SIZE = 256; // px

function stopPainting(view) {
    view.tool = "compare";
}

function makePicture({ view, send, upload, state, model }) {
    const urls = {};
    const tags = ["left", "right"].map((side) => {
        const options = Object.entries(PICTURES).map(([name, [words]]) => new Option(words, name));
        const tag = h("select", { className: `ex5-tag ex5-tag-${side}` }, ...options);
        tag.setAttribute("aria-label", `picture on the ${side}`);
        tag.onchange = () => {
            Object.assign(view, { chosen: true, [side]: tag.value });
            draw();
        };
        return tag;
    });
    const busy = h("div", { className: "ex5-busy" });
    let strokes = 0; // a mask from before the last stroke is not drawn: it would undo that stroke
    const seen = { x: 0, y: 0, side: 1 };
    const painting = makePainting({
        view, seen,
        paint(mask) {
            strokes = Math.max(strokes, state().stroke) + 1;
            send({ do: "paint", stroke: strokes }, mask);
        },
        upload: (file) => upload(file, "mask"),
        name: () => state().name,
        draw: () => draw(),
    });
    const { brush } = painting;
    let later = null;
    const { box: stage, under, over, handle, wipe, ...zoom } = makeStage({
        seen, onPictures: [brush.canvas], onStage: [brush.outline, ...tags, busy], most: () => CLOSEST,
        isPainting: painting.isOn, began: brush.abandon,
        moved() {
            brush.follow();
            later ??= setTimeout(() => { // no more often than the kernel can draw it
                later = null;
                const half = seen.side / 2;
                send({ do: "look", x: seen.x + half, y: seen.y + half, side: seen.side });
            }, OFTEN);
        },
    });

    const compare = button("◧ compare", "Compare two pictures", () => painting.pick("compare"), { value: "compare" });
    const [paint, ...others] = painting.tools;
    const whilePainting = [...others, ...painting.others];
    const download = button("⤓ PNG", "Download the picture on the right at full size",
        () => send({ do: "download", picture: painting.isOn() ? "photo" : view.right }));
    const toolbar = h("div", { className: "ex5-tools" },
        compare, paint, ...whilePainting, painting.file, ...zoom.buttons, download);
    const meanings = explained("What these pictures are, and how to move and paint", [...Object.values(PICTURES), ...HOW]);

    const box = h("div", { className: "ex5-middle" }, stage, toolbar, meanings);
    box.addEventListener("keydown", (event) => {
        if (event.target.closest("select, summary")) return;
        if (!(painting.isOn() && painting.key(event)) && (event.ctrlKey || event.metaKey || !zoom.key(event))) return;
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
            brush.begin(MASK_SIZE, MASK_SIZE);
            brush.draw(model.get("mask"));
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
        const now = painting.isOn();
        stage.classList.toggle("ex5-painting", now);
        const shown = now ? "photo" : view.right;
        Object.assign(under, { src: urls[shown] ?? "", alt: PICTURES[shown][0] });
        Object.assign(over, { src: urls[view.left] ?? "", alt: PICTURES[view.left][0] });
        under.classList.toggle("ex5-stale", !now && stale.includes(view.right));
        over.classList.toggle("ex5-stale", stale.includes(view.left));
        tags.forEach((tag, i) => {
            for (const option of tag.options) {
                const [words] = PICTURES[option.value];
                option.hidden = option.disabled = !has(option.value);
                option.textContent = stale.includes(option.value) ? `${words} (earlier)` : words;
            }
            tag.value = [view.left, view.right][i];
        });
        for (const each of [over, handle, ...tags]) each.hidden = now;
        wipe();
        painting.draw(unpainted);
        const searching = phase === "starting" || phase === "searching";
        busy.textContent = phase === "aligning" ? "looking for a face…" : "searching…";
        busy.hidden = now || !["starting", "aligning"].includes(phase);
        paint.hidden = !paintable;
        for (const each of whilePainting) each.hidden = !now;
        download.disabled = searching && !["photo", "target"].includes(shown); // not before it is whole
        compare.setAttribute("aria-pressed", !now);
    }
    return {
        box, load, draw,
        drawMask: () => state().stroke >= strokes && brush.draw(model.get("mask")),
        forget: () => Object.values(urls).forEach((url) => url && URL.revokeObjectURL(url)),
    };
}
