// Painting a mask on the photo: with mouse, pen or finger, or with the arrow keys and the space bar.

const SIZE = 256; // px of the mask
const STEP = 4; // px by which an arrow key moves the brush
const UNDO = 50; // strokes that can be undone
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `tool()` is "brush", "rectangle" or "eraser"; `seen` is the part of the picture on the stage; `send` gets the mask, a
// byte per pixel, after each stroke.
function makeBrush(tool, seen, send) {
    const keys = "mask: paint with the mouse, or move with the arrows and paint with the space bar";
    const canvas = h("canvas", { width: SIZE, height: SIZE, tabIndex: 0, role: "application", "aria-label": keys });
    const outline = h("div", { className: "ex5-outline", hidden: true });
    const words = "size of the brush";
    const width = h("input", { type: "range", min: 4, max: 64, value: 20, "aria-label": words, title: "[ and ]" });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    let cursor = [SIZE / 2, SIZE / 2];
    const before = []; // what undo brings back
    const after = []; // what redo brings back
    let from = null; // the stroke's last point, or the rectangle's first corner

    const color = () => getComputedStyle(canvas).getPropertyValue("--ex5-paint").trim() || "#e69f00";
    const pixels = () => pen.getImageData(0, 0, SIZE, SIZE);
    function mask() { // a byte per pixel
        const rgba = pixels().data;
        return Uint8Array.from({ length: SIZE * SIZE }, (_, i) => (rgba[4 * i + 3] > 127 ? 1 : 0));
    }
    function remember() {
        before.push(pixels());
        if (before.length > UNDO) before.shift();
        after.length = 0;
    }
    const finish = () => send(mask().buffer);
    function bring(from, to) {
        if (!from.length) return;
        to.push(pixels());
        pen.putImageData(from.pop(), 0, 0);
        finish();
    }
    function prepare() {
        pen.globalCompositeOperation = tool() === "eraser" ? "destination-out" : "source-over";
        pen.strokeStyle = pen.fillStyle = color();
        pen.lineWidth = Number(width.value);
        pen.lineCap = "round";
    }
    function stroke(to) {
        prepare();
        pen.beginPath();
        pen.moveTo(...from);
        pen.lineTo(to[0] + 0.01, to[1]); // a line without length would not be drawn
        pen.stroke();
    }
    function rectangle(to) {
        pen.putImageData(before.at(-1), 0, 0);
        prepare();
        const corner = [0, 1].map((i) => Math.round(Math.min(from[i], to[i])));
        pen.fillRect(...corner, ...[0, 1].map((i) => Math.round(Math.max(from[i], to[i])) - corner[i]));
    }
    function place(event) {
        const box = canvas.getBoundingClientRect();
        const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
        return shares.map((share) => SIZE * Math.min(1, Math.max(0, share)));
    }
    function point(to, shown = tool() !== "rectangle") {
        cursor = to;
        outline.hidden = !shown;
        outline.style.width = `${(100 * width.value) / SIZE / seen.side}%`;
        outline.style.left = `${(100 * (to[0] / SIZE - seen.x)) / seen.side}%`;
        outline.style.top = `${(100 * (to[1] / SIZE - seen.y)) / seen.side}%`;
    }
    const follow = () => point(cursor, !outline.hidden); // another size, another part of the picture
    const rest = () => (outline.hidden = true);
    width.oninput = follow;
    canvas.onpointerdown = (event) => {
        if (event.button) return;
        canvas.setPointerCapture(event.pointerId);
        remember();
        from = place(event);
        point(from);
        if (tool() !== "rectangle") stroke(from);
        event.preventDefault();
        event.stopPropagation();
        canvas.focus({ preventScroll: true });
    };
    canvas.onpointermove = (event) => {
        const to = place(event);
        point(to);
        if (!from) return;
        if (tool() === "rectangle") return rectangle(to);
        stroke(to);
        from = to;
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
        if (from) finish();
        from = null;
    };
    canvas.onpointerleave = canvas.onblur = rest;
    canvas.onkeydown = (event) => {
        const [right, down] = ARROWS[event.key] ?? [0, 0];
        if (!(right || down || event.key === " ")) return;
        event.preventDefault();
        event.stopPropagation();
        point([cursor[0] + STEP * right, cursor[1] + STEP * down].map((at) => Math.min(SIZE, Math.max(0, at))), true);
        if (event.key !== " ") return;
        remember();
        from = cursor;
        stroke(from);
        from = null;
        finish();
    };
    return {
        canvas, outline, width, follow, mask, rest,
        canUndo: () => before.length > 0,
        canRedo: () => after.length > 0,
        undo: () => bring(before, after),
        redo: () => bring(after, before),
        resize(factor) {
            width.value = Math.round(width.value * factor);
            follow();
        },
        abandon() { // the stroke that has begun was none
            if (from) pen.putImageData(before.pop(), 0, 0);
            from = null;
        },
        clear() {
            remember();
            pen.clearRect(0, 0, SIZE, SIZE);
            finish();
        },
        forget: () => (before.length = after.length = 0), // nothing can be undone any more
        draw(mask) { // the kernel's, a byte per pixel
            if (from || !mask?.byteLength) return;
            const image = pen.createImageData(SIZE, SIZE);
            const bytes = new Uint8Array(mask.buffer, mask.byteOffset, mask.byteLength);
            bytes.forEach((byte, i) => (image.data[4 * i + 3] = 255 * byte));
            pen.putImageData(image, 0, 0);
            pen.globalCompositeOperation = "source-in"; // colours what is there
            pen.fillStyle = color();
            pen.fillRect(0, 0, SIZE, SIZE);
        },
        file(done) { // as a PNG, white where the photo is removed
            const paper = h("canvas", { width: SIZE, height: SIZE });
            const image = pen.createImageData(SIZE, SIZE);
            image.data.fill(255);
            mask().forEach((byte, i) => image.data.fill(255 * byte, 4 * i, 4 * i + 3));
            paper.getContext("2d").putImageData(image, 0, 0);
            paper.toBlob(done, "image/png");
        },
    };
}
