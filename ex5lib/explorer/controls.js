// The controls: they send what the user changes, and show the kernel's values.

const PART = 500_000; // bytes of a file per message
const SETTLED = 700; // ms after the user's last change in which the kernel does not set a control
const OF_HOLE = ["top", "left", "height", "width"];

function row(label, ...children) {
    return h("div", { className: "ex5-row" }, h("span", { className: "ex5-label" }, label), ...children);
}

function group(title, ...children) {
    return h("fieldset", {}, h("legend", {}, title), ...children);
}

// `page` has about, view, send(message, data), change(values), problem(text) and state(), as makePage gives them.
function makeControls({ about, view, send, change, problem, state }) {
    const isFree = (name, ...typed) => performance.now() - (view.touched[name] ?? -1e9) > SETTLED
        && !typed.includes(document.activeElement) && state().field !== name; // what was refused stays, to be corrected
    const sigmaOf = (kernelSize) => Number((0.15 * kernelSize + 0.35).toFixed(2));

    // A slider, and a field whose value may go beyond it. With `log`, the slider moves the exponent.
    function slider(name, { label, unit, min, max, step, log }) {
        const to = log ? (x) => Math.log10(Math.max(x, min)) : Number; // there is no 0 on such a scale
        const from = log ? (x) => Number((10 ** x).toPrecision(2)) : Number;
        const range = h("input", {
            type: "range", min: to(min), max: to(max), step: log ? 0.1 : step, "aria-label": label,
        });
        const words = `${label}, typed`;
        const typed = h("input", { type: "number", step: "any", inputMode: "decimal", "aria-label": words });
        range.oninput = () => {
            typed.value = from(range.value);
            change({ [name]: from(range.value) });
        };
        typed.onchange = () => typed.value !== "" && change({ [name]: Number(typed.value) });
        const mark = h("button", { type: "button", className: "ex5-mark", hidden: true });
        mark.setAttribute("aria-label", `${label}: the task's own`);
        const track = h("span", { className: "ex5-slider" }, range, mark);
        return {
            box: row(unit ? `${label} (${unit})` : label, track, typed),
            set(value) {
                if (!isFree(name, typed)) return;
                range.value = to(value);
                typed.value = value;
            },
            mark(value, title, onclick) { // a thumb is 16 px wide: its centre does not reach the slider's ends
                const share = (to(value) - to(min)) / (to(max) - to(min));
                mark.style.left = `calc(8px + ${share} * (100% - 16px))`;
                Object.assign(mark, { hidden: false, title, onclick });
            },
        };
    }
    function select(name, options, onpick) {
        const element = h("select", { "aria-label": name }, ...options.map((each) => new Option(each, each)));
        element.onchange = () => onpick(element.value);
        return { box: row(name, element), set: (value) => isFree(name) && (element.value = value) };
    }
    function tick(label, title, onpick) {
        const element = h("input", { type: "checkbox" });
        element.onchange = () => onpick(element.checked);
        const box = h("label", { className: "ex5-tick", title }, element, label);
        return { box, set: (on) => (element.checked = on) };
    }
    async function upload(file) {
        if (file.size > about.max_upload) {
            return problem(`${file.name} is larger than ${about.max_upload / 1e6} MB: scale it down or save it as JPEG.`);
        }
        for (let at = 0; at < Math.max(file.size, 1); at += PART) {
            const part = await file.slice(at, at + PART).arrayBuffer();
            send({ do: "upload", name: file.name, size: file.size, at }, part);
        }
    }

    const file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "photo file" });
    file.onchange = () => {
        if (file.files[0]) upload(file.files[0]);
        file.value = "";
    };
    const samples = h("select", { "aria-label": "sample photos" }, new Option("a sample …", ""),
        ...about.photos.map((each) => new Option(each, each)));
    samples.onchange = () => {
        send({ do: "choose", name: samples.value });
        samples.value = "";
    };
    const name = h("span", { className: "ex5-name" });
    const faces = h("div", { className: "ex5-strip", role: "group", "aria-label": "faces in the photo" });
    const open = button("Upload …", "Choose a photo of a face from this computer", () => file.click());
    const damages = h("div", { className: "ex5-damage", role: "group", "aria-label": "damage found in this photo" });
    const damaged = tick("the photo itself is damaged",
        "Nothing is done to the photo, and there is no original to compare with.", (on) => change({ damaged: on }));

    const degradation = select("degradation", about.degradations, (value) => {
        view.chosen = false;
        stopPainting(view);
        change({ degradation: value });
    });
    const sliders = Object.fromEntries(
        Object.entries(about.ranges).map(([each, range]) => [each, slider(each, range)]));
    const also = h("div", { className: "ex5-note" });
    const follows = tick("σ follows the kernel size", "σ = 0.15 · kernel size + 0.35",
        (on) => change({ sigma: on ? null : sigmaOf(state().choice.kernel_size) }));
    const hole = OF_HOLE.map((each) =>
        h("input", { type: "number", min: 0, max: 256, placeholder: "–", "aria-label": `${each} of the hole` }));
    for (const each of hole) {
        each.onchange = () => {
            if (hole.every((one) => one.value !== "")) change({ hole: hole.map((one) => Number(one.value)) });
        };
    }
    const holeBox = row("hole (px)",
        h("span", { className: "ex5-four" }, ...hole.map((each, i) => h("label", {}, OF_HOLE[i], each))));

    const weight = slider("latent_weight", { ...about.weight, log: true });
    const toOwn = () => {
        delete view.touched.latent_weight;
        send({ do: "change", latent_weight: null });
    };
    const own = button("↺ the task's own", "Let the recipe choose λ_w for this task", toOwn);
    const ownWords = h("div", { className: "ex5-note" });
    const meaning = h("div", { className: "ex5-note" },
        "Less: nearer to the target. More: nearer to the average face.");
    const recipe = select("recipe", about.recipes, (value) => change({ recipe: value }));
    const seed = h("input", { type: "number", step: 1, min: 0, "aria-label": "seed" });
    seed.onchange = () => change({ seed: Number(seed.value || 0) });
    const another = button("Another answer", "Another face that fits the photo",
        () => {
            stopPainting(view); // to see it
            send({ do: "another" });
        });
    const answer = h("div", { className: "ex5-note" });

    let proposed = ""; // a redrawn box would lose its focus, and a click in progress
    let damageTicks = [];
    function setDamages(found) {
        const now = found.map(({ reason }) => reason).join();
        if (now !== proposed) {
            proposed = now;
            damageTicks = found.map(({ reason }, i) => tick(reason,
                "The photo has this damage: find a face that looks like it when damaged in the same way",
                (on) => send({ do: "accept", damage: i, on })));
            damages.replaceChildren("This photo seems damaged. Restore:", ...damageTicks.map(({ box }) => box));
        }
        damages.hidden = !found.length;
        damageTicks.forEach(({ set }, i) => set(found[i].accepted));
    }

    // The field whose value was refused says why.
    const seedRow = row("seed", seed, another);
    const boxes = { latent_weight: weight.box, hole: holeBox, seed: seedRow };
    for (const [each, { box }] of Object.entries(sliders)) boxes[each] = box;
    const refusal = h("div", { className: "ex5-refusal ex5-error" });
    function setRefusal(field, words) {
        for (const [each, box] of Object.entries(boxes)) {
            for (const input of box.querySelectorAll("input")) input.setAttribute("aria-invalid", each === field);
        }
        refusal.textContent = words;
        if (!boxes[field]) refusal.remove();
        else if (refusal.parentElement !== boxes[field]) boxes[field].append(refusal);
    }

    return {
        box: h("div", { className: "ex5-controls" },
            group("Photo", name, h("div", { className: "ex5-row" }, open, samples, file), faces, damages, damaged.box),
            group("What is done to it",
                degradation.box, also, ...Object.values(sliders).map((one) => one.box), follows.box, holeBox),
            group("The search", weight.box, meaning, ownWords, own, recipe.box, seedRow, answer)),
        set({ choice, reads: read, own_weight: ownWeight, own: words, name: photo, damages: found, face, field, status }) {
            for (const [each, { box, set }] of Object.entries(sliders)) {
                box.hidden = !read.includes(each);
                set(each === "sigma" ? choice.sigma ?? sigmaOf(choice.kernel_size) : choice[each]);
            }
            follows.box.hidden = !read.includes("sigma");
            follows.set(choice.sigma === null);
            holeBox.hidden = !read.includes("hole");
            if (isFree("hole", ...hole)) hole.forEach((each, i) => (each.value = choice.hole?.[i] ?? ""));
            degradation.set(choice.degradation);
            also.textContent = choice.more.length ? `and ${choice.more.join(" and ")}` : "";
            recipe.set(choice.recipe);
            damaged.set(choice.damaged);
            weight.set(choice.latent_weight ?? Number(ownWeight.toPrecision(3)));
            weight.mark(ownWeight, words, toOwn);
            ownWords.textContent = words;
            own.hidden = choice.latent_weight === null;
            if (isFree("seed", seed)) seed.value = choice.seed;
            answer.textContent = choice.answer ? `This is answer ${choice.answer + 1}.` : "";
            name.textContent = photo;
            setDamages(found);
            setRefusal(field, status);
            [...faces.children].forEach((each, i) => each.setAttribute("aria-pressed", i === face));
        },
        setFaces(found) {
            faces.hidden = !found.length;
            faces.replaceChildren(...found.map(({ picture, words, sure }, i) => {
                const card = thumbnail(picture, `Take this face, ${words}`, () => send({ do: "pick", face: i }));
                if (!sure) card.append(h("span", { className: "ex5-unsure" }, "no face?"));
                return card;
            }));
        },
    };
}
