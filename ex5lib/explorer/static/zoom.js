// Zoom and pan of the stage, with wheel, two fingers, the middle button and keys.

const MOST = 8; // times larger

// `layer` is what is moved on the stage; `seen` is the part of it that is on the stage, in shares of its side: the upper
// left corner and the side. `moved` is called after each change, `began` when a second finger makes a gesture of what
// the first one has begun.
function makeZoom(stage, layer, seen, moved, began) {
    const limited = (value, least, most) => Math.min(most, Math.max(least, value));
    function show(x, y, side) {
        seen.side = limited(side, 1 / MOST, 1);
        seen.x = limited(x, 0, 1 - seen.side);
        seen.y = limited(y, 0, 1 - seen.side);
        layer.style.transform = `scale(${1 / seen.side}) translate(${-100 * seen.x}%, ${-100 * seen.y}%)`;
        moved();
    }
    const pan = (right, down) => show(seen.x - right * seen.side, seen.y - down * seen.side, seen.side);
    function zoom(factor, { x, y } = { x: 0.5, y: 0.5 }) { // what is there, in shares of the stage, stays there
        const side = limited(seen.side / factor, 1 / MOST, 1);
        show(seen.x + x * (seen.side - side), seen.y + y * (seen.side - side), side);
    }
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

    const two = (event) => event.touches.length > 1 && event.preventDefault(); // or the page might scroll
    stage.addEventListener("touchstart", two, { passive: false });
    const held = new Map(); // where the fingers, or the mouse with its middle button, are
    let gesture = false;
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
    return {
        zoom, pan,
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
