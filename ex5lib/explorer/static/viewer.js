// Two pictures of one photo, before and after, under a wipe; both are zoomed and moved in step.

const MOST = 16; // times the size at which the whole photo is seen

function makeViewer() {
    const under = h("img", { alt: "", draggable: false });
    const over = h("img", { alt: "", draggable: false });
    const front = h("div", { className: "pane" }, over);
    const marks = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    marks.setAttribute("viewBox", "0 0 1 1");
    marks.setAttribute("preserveAspectRatio", "none");
    marks.setAttribute("aria-hidden", "true");
    const handle = h("div", {
        className: "wipe", role: "slider", tabIndex: 0, "aria-label": "Before to the left of the line, after to its right",
        "aria-valuemin": "0", "aria-valuemax": "100", "aria-describedby": "viewer-keys",
    });
    const tags = ["Before", "After"].map((text) => h("span", { className: `tag ${text.toLowerCase()}` }, text));
    const words = h("span");
    const stage = h("div", { className: "stage" }, h("div", { className: "pane" }, under), front, marks, handle, ...tags,
        h("div", { className: "over" }, words));
    const shown = { s: 1, x: 0, y: 0, at: 0.5 }; // scale; place of the left upper corner, in shares of the stage; wipe

    function draw() {
        const { s, at } = shown;
        shown.x = Math.min(0, Math.max(1 - s, shown.x));
        shown.y = Math.min(0, Math.max(1 - s, shown.y));
        const transform = `translate(${100 * shown.x}%, ${100 * shown.y}%) scale(${s})`;
        for (const each of [under, over, marks]) each.style.transform = transform;
        front.style.clipPath = `inset(0 ${100 * (1 - at)}% 0 0)`;
        handle.style.left = `${100 * at}%`;
        handle.setAttribute("aria-valuenow", Math.round(100 * at));
        stage.style.touchAction = s > 1 ? "none" : "pan-y";
        stage.classList.toggle("zoomed", s > 1);
        tags[0].hidden = handle.hidden || at < 0.12;
        tags[1].hidden = handle.hidden || at > 0.88;
        out.disabled = fit.disabled = s <= 1;
        into.disabled = s >= most();
    }
    const wipe = (at) => {
        shown.at = Math.min(1, Math.max(0, at));
        draw();
    };
    const most = () => Math.max(MOST, (4 * under.naturalWidth) / (stage.clientWidth || 1));
    function zoom(factor, x = 0.5, y = 0.5) { // about (x, y), in shares of the stage
        const s = Math.min(most(), Math.max(1, shown.s * factor));
        shown.x = x - ((x - shown.x) * s) / shown.s;
        shown.y = y - ((y - shown.y) * s) / shown.s;
        shown.s = s;
        draw();
    }
    function move(dx, dy) {
        shown.x += dx;
        shown.y += dy;
        draw();
    }
    function whole() {
        Object.assign(shown, { s: 1, x: 0, y: 0 });
        draw();
    }
    const out = button("−", "Smaller (key: −)", () => zoom(1 / 1.5), { "aria-label": "zoom out" });
    const into = button("+", "Larger (key: +)", () => zoom(1.5), { "aria-label": "zoom in" });
    const fit = button("Whole photo", "The whole photo (key: 0)", whole);
    const keys = h("p", { id: "viewer-keys", className: "soft" },
        "Drag the line, or use the arrow keys. Zoom with the wheel, two fingers or + and −; then drag to move around.");

    // One finger or the mouse moves the line or, in a zoomed photo, the photo; two fingers zoom.
    const fingers = new Map();
    const place = (event) => {
        const box = stage.getBoundingClientRect();
        return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    const isNear = ([x]) => Math.abs(x - shown.at) * stage.clientWidth < 24;
    let panning = false;
    stage.onpointerdown = (event) => {
        if (event.button || under.hidden) return;
        stage.setPointerCapture(event.pointerId);
        fingers.set(event.pointerId, place(event));
        panning = shown.s > 1 && !isNear(place(event));
        if (event.pointerType === "mouse" && !panning && !handle.hidden) wipe(place(event)[0]);
        handle.focus({ preventScroll: true });
    };
    stage.onmousedown = (event) => event.preventDefault(); // it would take the focus from the handle
    stage.onpointermove = (event) => {
        if (!fingers.has(event.pointerId)) return;
        const [before, now] = [fingers.get(event.pointerId), place(event)];
        const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
        fingers.set(event.pointerId, now);
        if (other) {
            const { clientWidth: wide, clientHeight: high } = stage;
            const apart = ([x, y]) => Math.hypot(wide * (x - other[0]), high * (y - other[1])) || 1;
            const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
            move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
            zoom(apart(now) / apart(before), ...middle);
        } else if (panning) move(now[0] - before[0], now[1] - before[1]);
        else if (!handle.hidden) wipe(now[0]);
    };
    stage.onpointerup = stage.onpointercancel = (event) => fingers.delete(event.pointerId);
    for (const kind of ["touchstart", "touchmove"]) { // a browser would scroll instead
        stage.addEventListener(kind, (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
    }
    stage.addEventListener("wheel", (event) => {
        if (under.hidden || (event.deltaY > 0 && shown.s <= 1)) return; // then the page scrolls
        event.preventDefault();
        zoom(Math.exp(-event.deltaY / 300), ...place(event));
    }, { passive: false });
    handle.onkeydown = (event) => {
        const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
        const [dx, dy] = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key] ?? [];
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (shown.s > 1 && dx !== undefined && (event.shiftKey || dy)) move(dx, dy);
        else if (step) wipe(shown.at + step);
        else if (event.key === "Home") wipe(0);
        else if (event.key === "End") wipe(1);
        else if (event.key === "+" || event.key === "=") zoom(1.5);
        else if (event.key === "-") zoom(1 / 1.5);
        else if (event.key === "0") whole();
        else return;
        event.preventDefault();
    };

    function load(image, source) {
        image.hidden = !source;
        if (source && image.getAttribute("src") !== source) image.src = source;
    }
    const bar = h("div", { className: "zoom" }, out, into, fit);
    wipe(0.5);
    return {
        box: h("div", { className: "viewer" }, stage, bar, keys), wipe, whole,
        // `before` and `after` are addresses, empty if there is none; a wipe needs both. `ratio` is width by height.
        show({ before, after, ratio, text = "", faded = false, alts = ["The photo as it was", "The restored photo"] }) {
            load(under, after || before);
            load(over, after ? before : "");
            [over.alt, under.alt] = after ? alts : ["", alts[0]];
            handle.hidden = !after;
            bar.hidden = !before || faded;
            keys.hidden = !after;
            stage.classList.toggle("faded", faded);
            stage.classList.toggle("blank", !before);
            if (ratio) stage.style.setProperty("--ratio", ratio);
            words.textContent = text;
            words.hidden = !text;
            draw();
        },
        // Outlines of faces: their corners in shares of the photo's sides, and whether each is chosen.
        outline(faces) {
            marks.innerHTML = faces.map(({ corners, chosen }) =>
                `<polygon class="${chosen ? "chosen" : ""}" points="${corners.map((at) => at.join()).join(" ")}"/>`).join("");
        },
    };
}
