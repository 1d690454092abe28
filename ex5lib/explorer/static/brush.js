// Painting a mask on the photo: with mouse, pen or finger, or with the arrow keys and the space bar.

const STEP = 1 / 64; // of the stage's width, by which an arrow key moves the brush
const UNDO = 50; // strokes that can be undone
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `tool()` is "brush", "rectangle" or "eraser"; `seen` is the part of the picture on the stage; `send` is called after
// each stroke. A mask has one bit a pixel, row by row, as NumPy packs them.
function makeBrush(tool, seen, send) {
    const keys = "mask: paint with the mouse, or move with the arrows and paint with the space bar";
    const canvas = h("canvas", { tabIndex: 0, role: "application", "aria-label": keys });
    const outline = h("div", { className: "ex5-outline", hidden: true });
    const words = "size of the brush";
    const width = h("input", { type: "range", min: 2, max: 64, value: 20, "aria-label": words, title: "[ and ]" }); // of 256
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    let cursor = [0.5, 0.5]; // in shares of the picture's sides
    const before = []; // what undo brings back
    const after = []; // what redo brings back
    let from = null; // the stroke's last point, or the rectangle's first corner

    const color = () => getComputedStyle(canvas).getPropertyValue("--ex5-paint").trim() || "#e69f00";
    const pixel = ([x, y]) => [x * canvas.width, y * canvas.height];
    const thickness = () => (Number(width.value) / 256) * seen.side * canvas.width; // finer in a zoomed picture
    function mask() {
        const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
        const bits = new Uint8Array(Math.ceil(data.length / 32));
        for (let i = 0; i < data.length / 4; i++) if (data[4 * i + 3] > 127) bits[i >> 3] |= 128 >> (i & 7);
        return bits;
    }
    function put(bits) {
        const image = pen.createImageData(canvas.width, canvas.height);
        for (let i = 0; i < image.data.length / 4; i++) image.data[4 * i + 3] = bits[i >> 3] & (128 >> (i & 7)) ? 255 : 0;
        pen.putImageData(image, 0, 0);
        pen.globalCompositeOperation = "source-in"; // colours what is there
        pen.fillStyle = color();
        pen.fillRect(0, 0, canvas.width, canvas.height);
    }
    function remember() {
        before.push(mask());
        if (before.length > UNDO) before.shift();
        after.length = 0;
    }
    function bring(from, to) {
        if (!from.length) return;
        to.push(mask());
        put(from.pop());
        send();
    }
    function prepare() {
        pen.globalCompositeOperation = tool() === "eraser" ? "destination-out" : "source-over";
        pen.strokeStyle = pen.fillStyle = color();
        pen.lineWidth = thickness();
        pen.lineCap = "round";
    }
    function stroke(to) {
        prepare();
        pen.beginPath();
        pen.moveTo(...pixel(from));
        const [x, y] = pixel(to);
        pen.lineTo(x + 0.01, y); // a line without length would not be drawn
        pen.stroke();
    }
    function rectangle(to) {
        put(before.at(-1));
        prepare();
        const [start, end] = [pixel(from), pixel(to)];
        const corner = [0, 1].map((i) => Math.round(Math.min(start[i], end[i])));
        pen.fillRect(...corner, ...[0, 1].map((i) => Math.round(Math.max(start[i], end[i])) - corner[i]));
    }
    function place(event) {
        const box = canvas.getBoundingClientRect();
        const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
        return shares.map((share) => Math.min(1, Math.max(0, share)));
    }
    function point(to, shown = tool() !== "rectangle") {
        cursor = to;
        outline.hidden = !shown;
        outline.style.width = `${(100 * width.value) / 256}%`; // of the stage
        outline.style.left = `${(100 * (to[0] - seen.x)) / seen.side}%`;
        outline.style.top = `${(100 * (to[1] - seen.y)) / seen.side}%`;
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
        if (from) send();
        from = null;
    };
    canvas.onpointerleave = canvas.onblur = rest;
    canvas.onkeydown = (event) => {
        const [right, down] = ARROWS[event.key] ?? [0, 0];
        if (tool() === "compare" || event.shiftKey || !(right || down || event.key === " ")) return;
        event.preventDefault();
        event.stopPropagation();
        const step = STEP * seen.side;
        const [x, y] = [cursor[0] + step * right, cursor[1] + (step * down * canvas.width) / canvas.height];
        point([x, y].map((share) => Math.min(1, Math.max(0, share))), true);
        if (event.key !== " ") return;
        remember();
        from = cursor;
        stroke(from);
        from = null;
        send();
    };
    return {
        canvas, outline, width, follow, mask, rest, remember,
        canUndo: () => before.length > 0,
        canRedo: () => after.length > 0,
        undo: () => bring(before, after),
        redo: () => bring(after, before),
        resize(factor) {
            width.value = Math.round(width.value * factor);
            follow();
        },
        abandon() { // the stroke that has begun was none
            if (from) put(before.pop());
            from = null;
        },
        clear() {
            remember();
            pen.clearRect(0, 0, canvas.width, canvas.height);
            send();
        },
        begin(wide, high) { // a mask for another picture: empty, and nothing can be undone any more
            from = null;
            before.length = after.length = 0;
            Object.assign(canvas, { width: wide, height: high });
        },
        draw(mask) { // the kernel's
            if (from || !mask?.byteLength || mask.byteLength !== Math.ceil((canvas.width * canvas.height) / 8)) return;
            put(new Uint8Array(mask.buffer, mask.byteOffset, mask.byteLength));
        },
        file(done) { // as a PNG, white where the photo is removed
            const paper = h("canvas", { width: canvas.width, height: canvas.height });
            const ink = paper.getContext("2d");
            ink.drawImage(canvas, 0, 0);
            const image = ink.getImageData(0, 0, paper.width, paper.height);
            for (let i = 0; i < image.data.length; i += 4) {
                image.data.fill(image.data[i + 3] > 127 ? 255 : 0, i, i + 3);
                image.data[i + 3] = 255;
            }
            ink.putImageData(image, 0, 0);
            paper.toBlob(done, "image/png");
        },
    };
}
