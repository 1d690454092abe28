// A stage: two pictures of the same thing under a wipe, zoomed and moved in step by mouse, fingers and keys.

// `seen` is the part of the pictures that is on the stage, in shares of their sides: the upper left corner and the side.
// `onPictures` are elements that move with the pictures, `onStage` others. `most()` is the largest zoom. `isPainting()`
// says that a pointer paints instead of wiping; `began` is called when a second finger makes a gesture of what the
// first one has begun, and `moved` when another part is seen.
function makeStage({ seen, onPictures, onStage, most, isPainting, moved, began }) {
    const under = h("img", { alt: "", draggable: false });
    const over = h("img", { alt: "", draggable: false });
    const handle = h("div", {
        className: "ex5-handle", role: "slider", tabIndex: 0, "aria-valuemin": 0, "aria-valuemax": 100,
        "aria-label": "line between two pictures: the first to its left, the second to its right",
    });
    const layer = h("div", { className: "ex5-layer" }, under, over, ...onPictures);
    const stage = h("div", { className: "ex5-stage" }, layer, handle, ...onStage);
    let at = 0.5; // the line, in shares of the stage

    const limited = (value, least, greatest) => Math.min(greatest, Math.max(least, value));
    function wipe(to = at) {
        at = limited(to, 0, 1);
        const share = 100 * (seen.x + at * seen.side); // of the whole picture
        over.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
        under.style.clipPath = isPainting() || handle.hidden ? "" : `inset(0 0 0 ${share}%)`;
        handle.style.left = `${100 * at}%`;
        handle.setAttribute("aria-valuenow", Math.round(100 * at));
    }
    function show(x, y, side) {
        seen.side = limited(side, 1 / most(), 1);
        seen.x = limited(x, 0, 1 - seen.side);
        seen.y = limited(y, 0, 1 - seen.side);
        layer.style.transform = `scale(${1 / seen.side}) translate(${-100 * seen.x}%, ${-100 * seen.y}%)`;
        stage.classList.toggle("ex5-zoomed", seen.side < 1);
        farther.disabled = whole.disabled = seen.side === 1;
        closer.disabled = seen.side <= 1 / most();
        wipe();
        moved();
    }
    const pan = (right, down) => show(seen.x - right * seen.side, seen.y - down * seen.side, seen.side);
    function zoom(factor, { x, y } = { x: 0.5, y: 0.5 }) { // what is there, in shares of the stage, stays there
        const side = limited(seen.side / factor, 1 / most(), 1);
        show(seen.x + x * (seen.side - side), seen.y + y * (seen.side - side), side);
    }
    const closer = button("+", "Zoom in: +, or the wheel", () => zoom(1.5), { "aria-label": "zoom in" });
    const farther = button("−", "Zoom out: −, or the wheel", () => zoom(1 / 1.5), { "aria-label": "zoom out" });
    const whole = button("whole", "Show the whole picture: 0", () => show(0, 0, 1));

    function place(event) {
        const box = stage.getBoundingClientRect();
        return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    }
    // The wheel zooms in a picture that is in use, or with Ctrl; otherwise it scrolls the page.
    stage.addEventListener("wheel", (event) => {
        const inUse = event.ctrlKey || seen.side < 1 || stage.contains(document.activeElement);
        if (!inUse || (seen.side === 1 && event.deltaY > 0 && !event.ctrlKey)) return;
        event.preventDefault();
        zoom(2 ** (-event.deltaY / (event.ctrlKey && !Number.isInteger(event.deltaY) ? 50 : 250)), place(event));
    }, { passive: false });

    // Two fingers, or the middle button, zoom and move.
    const two = (event) => event.touches.length > 1 && event.preventDefault(); // or the page might scroll
    stage.addEventListener("touchstart", two, { passive: false });
    const held = new Map(); // where they are
    let gesture = false;
    let follow = null; // what the pointer does that went down last
    function middle() {
        const [a, b = a] = [...held.values()];
        return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
    }
    const listen = (kind, act) => stage.addEventListener(kind, act, { capture: true }); // before brush and wipe
    listen("pointerdown", (event) => {
        if (event.pointerType !== "touch" && event.button !== 1) return;
        held.set(event.pointerId, place(event));
        if (held.size === 2 || event.button === 1) {
            gesture = true;
            follow = null;
            began();
            if (event.button === 1) stage.setPointerCapture(event.pointerId);
        }
        if (!gesture) return;
        event.stopPropagation();
        event.preventDefault(); // the middle button would scroll the page
    });
    listen("pointermove", (event) => {
        if (!held.has(event.pointerId)) return;
        const old = middle();
        held.set(event.pointerId, place(event));
        if (!gesture) return;
        event.stopPropagation();
        const now = middle();
        pan(now.x - old.x, now.y - old.y);
        if (held.size === 2) zoom(now.far / old.far, now);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
        listen(kind, (event) => {
            if (gesture) event.stopPropagation();
            held.delete(event.pointerId);
            gesture &&= held.size > 0;
        });
    }

    // One finger or the mouse wipes; in a zoomed picture, that is left to the handle, and everything else moves.
    stage.onpointerdown = (event) => {
        if (isPainting() || event.button || event.target.closest("select") || !under.getAttribute("src")) return;
        stage.setPointerCapture(event.pointerId);
        handle.focus({ preventScroll: true });
        event.preventDefault();
        if (seen.side < 1 && event.target !== handle) {
            let last = place(event);
            follow = (moved) => {
                const now = place(moved);
                pan(now.x - last.x, now.y - last.y);
                last = now;
            };
            return;
        }
        let scrolling = event.pointerType === "touch"; // perhaps: until the finger moves sideways, or is lifted
        if (!scrolling) wipe(place(event).x);
        follow = (moved) => {
            scrolling &&= moved.type === "pointermove" && Math.abs(moved.clientX - event.clientX) < 8;
            if (!scrolling) wipe(place(moved).x);
        };
    };
    stage.onmousedown = (event) => event.target.closest("select, canvas") || event.preventDefault(); // keeps the focus
    stage.onpointermove = (event) => follow?.(event);
    stage.onpointerup = (event) => {
        follow?.(event);
        follow = null;
    };
    stage.onpointercancel = () => (follow = null);
    handle.onkeydown = (event) => {
        const to = { ArrowLeft: at - 0.05, ArrowRight: at + 0.05, Home: 0, End: 1 }[event.key];
        if (to === undefined || event.shiftKey) return;
        wipe(to);
        event.preventDefault();
        event.stopPropagation(); // notebooks use the arrow keys, too
    };
    return {
        box: stage, under, over, handle, wipe, buttons: [farther, closer, whole],
        whole: () => show(0, 0, 1),
        key(event) { // returns whether it was for the zoom
            const [right, down] = (event.shiftKey && ARROWS[event.key]) || [0, 0];
            if (right || down) pan(-right / 8, -down / 8);
            else if ("+=".includes(event.key)) zoom(1.5);
            else if (event.key === "-") zoom(1 / 1.5);
            else if (event.key === "0") show(0, 0, 1);
            else return false;
            return true;
        },
    };
}
