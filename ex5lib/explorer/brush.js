// Painting a mask on the photo: with mouse, pen or finger, or with the arrow keys and the space bar.

const SIZE = 256; // px of the mask
const STEP = 4; // px by which an arrow key moves the brush
const UNDO = 20; // strokes that can be undone

// `tool()` is "brush", "rectangle" or "eraser"; `send` gets the mask, a byte per pixel, after each stroke.
function makeBrush(tool, send) {
    const keys = "mask: paint with the mouse, or move with the arrows and paint with the space bar";
    const canvas = h("canvas", { width: SIZE, height: SIZE, tabIndex: 0, "aria-label": keys });
    const cross = h("div", { className: "ex5-cross" });
    const words = "size of the brush";
    const width = h("input", { type: "range", min: 4, max: 64, value: 20, "aria-label": words, title: words });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const cursor = { x: SIZE / 2, y: SIZE / 2 };
    const before = []; // what undo brings back
    let from = null; // the stroke's last point, or the rectangle's first corner

    const color = () => getComputedStyle(canvas).getPropertyValue("--ex5-paint").trim() || "#e69f00";
    const pixels = () => pen.getImageData(0, 0, SIZE, SIZE);
    function remember() {
        before.push(pixels());
        if (before.length > UNDO) before.shift();
    }
    function finish() {
        const rgba = pixels().data;
        send(Uint8Array.from({ length: SIZE * SIZE }, (_, i) => (rgba[4 * i + 3] > 127 ? 1 : 0)).buffer);
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
    canvas.onpointerdown = (event) => {
        if (event.button) return;
        canvas.setPointerCapture(event.pointerId);
        remember();
        from = place(event);
        if (tool() !== "rectangle") stroke(from);
        event.preventDefault();
        event.stopPropagation();
        canvas.focus({ preventScroll: true });
    };
    canvas.onpointermove = (event) => {
        if (!from) return;
        const to = place(event);
        if (tool() === "rectangle") return rectangle(to);
        stroke(to);
        from = to;
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
        if (from) finish();
        from = null;
    };
    canvas.onkeydown = (event) => {
        const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] };
        if (!moves[event.key]) return;
        event.preventDefault();
        event.stopPropagation();
        const [right, down] = moves[event.key];
        cursor.x = Math.min(SIZE, Math.max(0, cursor.x + STEP * right));
        cursor.y = Math.min(SIZE, Math.max(0, cursor.y + STEP * down));
        cross.style.left = `${(100 * cursor.x) / SIZE}%`;
        cross.style.top = `${(100 * cursor.y) / SIZE}%`;
        if (event.key !== " ") return;
        remember();
        from = [cursor.x, cursor.y];
        stroke(from);
        from = null;
        finish();
    };
    return {
        canvas, cross, width,
        undo() {
            if (!before.length) return;
            pen.putImageData(before.pop(), 0, 0);
            finish();
        },
        clear() {
            remember();
            pen.clearRect(0, 0, SIZE, SIZE);
            finish();
        },
        forget: () => before.splice(0), // nothing can be undone any more
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
    };
}
