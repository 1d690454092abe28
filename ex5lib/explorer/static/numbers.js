// The second mode's numbers: the curve, the table, and what they mean.

// Several words, each with what it means, behind a "?".
function explained(what, words) {
    const lines = words.flatMap(([word, meaning]) => [h("dt", {}, word), h("dd", {}, meaning)]);
    const mark = h("summary", {}, h("span", { "aria-hidden": "true" }, "?"), what);
    return h("details", { className: "ex5-explained" }, mark, h("dl", {}, ...lines));
}

// The curve of d as SVG: `points` are [step, d, px]; the axis of d is logarithmic.
function curveSvg(points, steps) {
    const [width, height, left, right, top, bottom] = [340, 160, 34, 8, 20, 20];
    const values = points.map((point) => Math.log10(Math.max(point[1], 1e-4)));
    const [low, high] = [Math.min(...values) - 0.02, Math.max(...values) + 0.02];
    const x = (step) => (left + ((width - left - right) * step) / steps).toFixed(1);
    const y = (value) => (top + ((height - top - bottom) * (high - value)) / (high - low)).toFixed(1);
    const text = (at, down, words, anchor = "start") =>
        `<text x="${at}" y="${down}" text-anchor="${anchor}">${words}</text>`;
    const grid = [high, (low + high) / 2, low].map((value) =>
        `<line class="grid" x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}"/>` +
        text(left - 4, Number(y(value)) + 3, (10 ** value).toPrecision(2), "end"));
    const begins = points.filter((point, i) => !i || point[2] !== points[i - 1][2]);
    const stages = begins.map(([step, , px], i) => {
        const at = Number(x(step));
        const late = at > width - 50; // its label would be cut off
        const line = `<line class="stage" x1="${at}" x2="${at}" y1="${top - 12}" y2="${height - bottom}"/>`;
        return (i ? line : "") + text(late ? at - 3 : at + 3, top - 6, `${px} px`, late ? "end" : "start");
    });
    const line = points.map((point, i) => `${x(point[0])},${y(values[i])}`).join(" ");
    return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="perceptual distance over the steps">
        ${grid.join("")}${stages.join("")}<polyline points="${line}"/>
        <circle cx="${x(points.at(-1)[0])}" cy="${y(values.at(-1))}" r="3.5"/>
        ${text(left, height - 5, "0")}${text(width - right, height - 5, `${steps} steps`, "end")}</svg>`;
}

const ROWS = [
    ["unlike the damaged photo (d)", "target", 3],
    ["unlike the original (d)", "distance", 3],
    ["pixels like the original (PSNR, dB)", "psnr", 1],
    ["structure like the original (SSIM)", "ssim", 3],
    ["same person", "person", null],
];
const NUMBERS = [
    ["unlike (d)", "The perceptual distance: how different two pictures look to a network. The search makes it small. "
        + "Lower is more alike; compare it only for the same damage and the same size in px."],
    ["pixels (PSNR)", "How near the values of the pixels are, in decibels: higher is nearer."],
    ["structure (SSIM)", "How alike edges and textures are: 1 means identical."],
    ["same person", "The identity distance, between two faces as a network that recognises people sees them: it takes "
        + "those below 0.6 for the same person."],
];

// The table of numbers, with a column each for result, composite and previous result.
function numbersTable(columns) {
    const cell = (column, key, digits) => {
        if (column.pending && key !== "target") return "…";
        const value = column[key] ?? "–";
        return typeof value === "number" ? value.toFixed(digits) : value;
    };
    const head = columns.map((column) => h("th", { scope: "col", textContent: PICTURES[column.name][0] }));
    const isThere = ([, key]) => columns.some((column) => column.pending || (column[key] ?? null) !== null);
    const rows = ROWS.filter(isThere).map(([label, key, digits]) =>
        h("tr", {}, h("th", { scope: "row", textContent: label }),
            ...columns.map((column) => h("td", { textContent: cell(column, key, digits) }))));
    const notes = columns[0].original ? [] : ["For a damaged photo there is no original to compare with."];
    const [first, ...more] = columns[0].found;
    if (first) notes.unshift([`Found: ${first}`, ...more].join("\n"));
    const table = h("table", {}, h("tr", {}, h("td"), ...head), ...rows);
    return [table, ...notes.map((note) => h("div", { className: "ex5-note" }, note))];
}
