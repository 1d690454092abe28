// The tools to paint a mask with: brush, rectangle and eraser, undo and redo, and files.

const TOOLS = { brush: "● brush", rectangle: "▬ rectangle", eraser: "○ eraser" };
const PAINTING_WORDS = ["painting", "[ and ] change the brush. Ctrl+Z takes a stroke back, Ctrl+Shift+Z paints it again. "
    + "Without a mouse, the arrows move the brush, and the space bar paints."];

// `view.tool` is one of the tools, or "compare" while nothing is painted; `seen` is as in a stage. `paint` gets each
// new mask, `upload` a file with one, and `name()` is the photo's; `draw` is called when something else is to be shown.
function makePainting({ view, seen, paint, upload, name, draw }) {
    const brush = makeBrush(() => view.tool, seen, () => {
        paint(brush.mask().buffer);
        draw();
    });
    const isOn = () => view.tool !== "compare";
    const pick = (tool) => {
        view.tool = tool;
        draw();
    };
    const tools = Object.entries(TOOLS).map(([tool, words]) =>
        button(words, `Paint what is to be replaced: ${tool}`, () => pick(tool), { value: tool }));
    const undo = button("undo", "Take the last stroke back: Ctrl+Z", brush.undo);
    const redo = button("redo", "Paint it again: Ctrl+Shift+Z", brush.redo);
    const clear = button("clear", "Erase the whole mask", brush.clear);
    const size = h("label", { className: "ex5-size" }, "size", brush.width);
    const file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "mask file" });
    file.onchange = () => {
        brush.remember(); // so that it can be undone
        if (file.files[0]) upload(file.files[0]);
        file.value = "";
    };
    const open = button("open mask …", "Take a mask from a file: white is removed, black is kept", () => file.click());
    const save = button("save mask", "Save the mask as a PNG file, white where the photo is removed",
        () => brush.file((content) => offer(content, `${name().replace(/\.\w+$/, "")}-mask.png`)));
    return {
        brush, isOn, pick, tools, file,
        others: [undo, redo, clear, size, open, save],
        draw(empty) {
            if (!isOn()) brush.rest();
            brush.canvas.tabIndex = isOn() ? 0 : -1;
            undo.disabled = !brush.canUndo();
            redo.disabled = !brush.canRedo();
            save.disabled = clear.disabled = empty;
            for (const each of tools) each.setAttribute("aria-pressed", each.value === view.tool);
        },
        key(event) { // returns whether it was for the brush; a command that is not is left to the browser
            const key = event.key.toLowerCase();
            const command = (event.ctrlKey || event.metaKey) && !event.altKey; // with Alt, some keyboards type a [
            if (command && "zy".includes(key)) (key === "y" || event.shiftKey ? brush.redo : brush.undo)();
            else if (!command && "[]".includes(key)) brush.resize(key === "[" ? 0.8 : 1.25);
            else return false;
            return true;
        },
    };
}
