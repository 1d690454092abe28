// The controls: they send what the user changes, and show the kernel's values.

const SETTLED = 700; // ms after the user's last change in which the kernel does not set a control
const OF_HOLE = ["top", "left", "height", "width"];

function row(label, ...children) { // a label is text, or several things
    return h("div", { className: "ex5-row" }, h("span", { className: "ex5-label" }, ...[label].flat()), ...children);
}

const DAMAGE = "The field calls this a degradation. The search does the same to each face that it tries, and compares "
    + "what comes out with the damaged photo (the target).";
const DAMAGED = "For a photo that has this damage already: nothing is done to it, and there is no original to compare "
    + "with.";
const PULL = "The weight λ_w of the distance to the average face w̄. Less: nearer to the damaged photo. More: nearer to "
    + "the average face, so more plausible, but less alike.";
const RECIPE = "How the search goes: its steps, their sizes and rates. fast is the usual one, best takes longer and "
    + "comes nearer, karras2020 is the published search. The times are estimates: from the last search here or, before "
    + "it, from two cores of another machine.";
const SEED = "The number from which chance is drawn: the same seed gives the same image again.";

function group(title, ...children) {
    return h("fieldset", {}, h("legend", {}, title), ...children);
}

// The page gives about, view, send(message, data), upload(file, action), change(values) and state().
function makeControls({ about, view, send, upload, change, state }) {
    const isFree = (name, ...typed) => performance.now() - (view.touched[name] ?? -1e9) > SETTLED
        && !typed.includes(document.activeElement) && state().field !== name; // what was refused stays, to be corrected
    const sigmaOf = (kernelSize) => Number((0.15 * kernelSize + 0.35).toFixed(2));

    // A slider, and a field whose value may go beyond it. With `log`, the slider moves the exponent.
    function slider(name, { label, unit, min, max, step, log, meaning }) {
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
        const mark = h("span", { className: "ex5-mark", hidden: true });
        const track = h("span", { className: "ex5-slider" }, range, mark);
        return {
            box: row([unit ? `${label} (${unit})` : label, ...(meaning ? [help(label, meaning)] : [])], track, typed),
            set(value) {
                if (!isFree(name, typed)) return;
                range.value = to(value);
                typed.value = value;
            },
            mark(value) { // a thumb is 16 px wide: its centre does not reach the slider's ends
                const share = (to(value) - to(min)) / (to(max) - to(min));
                mark.style.left = `calc(8px + ${share} * (100% - 16px))`;
                mark.hidden = false;
            },
        };
    }
    function select(name, label, options, meaning, onpick) { // options are [value, words]
        const choices = options.map(([value, shown]) => new Option(shown, value));
        const element = h("select", { "aria-label": label }, ...choices);
        element.onchange = () => onpick(element.value);
        const box = row([label, help(label, meaning)], element);
        return { box, element, set: (value) => isFree(name) && (element.value = value) };
    }
    function tick(label, meaning, onpick) {
        const element = h("input", { type: "checkbox" });
        element.onchange = () => onpick(element.checked);
        const box = h("div", { className: "ex5-row" }, h("label", { className: "ex5-tick" }, element, label));
        if (meaning) box.append(help(label, meaning));
        return { box, set: (on) => (element.checked = on) };
    }

    const file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "photo file" });
    file.onchange = () => {
        if (file.files[0]) upload(file.files[0], "upload");
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
    const damaged = tick("the photo itself is damaged", DAMAGED, (on) => change({ damaged: on }));

    const words = Object.fromEntries(about.degradations.map(([value, ...said]) => [value, said]));
    const degradation = select("degradation", "damage", about.degradations, DAMAGE, (value) => {
        view.chosen = false;
        stopPainting(view);
        change({ degradation: value });
    });
    const sliders = Object.fromEntries(
        Object.entries(about.ranges).map(([each, range]) => [each, slider(each, range)]));
    const also = h("div", { className: "ex5-note" });
    const follows = tick("σ follows the width",
        "σ = 0.15 · width + 0.35, both in px of the face at 256 px. The width is the kernel's size.",
        (on) => change({ sigma: on ? null : sigmaOf(state().choice.kernel_size) }));
    const hole = OF_HOLE.map((each) =>
        h("input", { type: "number", min: 0, max: 256, placeholder: "–", "aria-label": `${each} of the hole` }));
    for (const each of hole) {
        each.onchange = () => {
            if (hole.every((one) => one.value !== "")) change({ hole: hole.map((one) => Number(one.value)) });
        };
    }
    const holeBox = row("or a rectangle (px of 256)",
        h("span", { className: "ex5-four" }, ...hole.map((each, i) => h("label", {}, OF_HOLE[i], each))));

    const weight = slider("latent_weight", { ...about.weight, log: true, meaning: PULL });
    const toOwn = () => {
        delete view.touched.latent_weight;
        send({ do: "change", latent_weight: null });
    };
    const own = button("↺ as recommended", "Let the recipe choose it for this damage", toOwn);
    const ownWords = h("div", { className: "ex5-note" });
    const recipe = select("recipe", "recipe", about.recipes.map((each) => [each, each]), RECIPE,
        (value) => change({ recipe: value }));
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
            damageTicks = found.map(({ reason }, i) => tick(reason, "",
                (on) => send({ do: "accept", damage: i, on })));
            damages.replaceChildren("This photo seems damaged. Restore:", ...damageTicks.map(({ box }) => box));
        }
        damages.hidden = !found.length;
        damageTicks.forEach(({ set }, i) => set(found[i].accepted));
    }

    // The field whose value was refused says why.
    const seedRow = row(["seed", help("seed", SEED)], seed, another);
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
            group("The search", weight.box, ownWords, own, recipe.box, seedRow, answer)),
        set({ choice, reads: read, own_weight: ownWeight, own: recommended, durations, ...now }) {
            for (const [each, { box, set }] of Object.entries(sliders)) {
                box.hidden = !read.includes(each);
                set(each === "sigma" ? choice.sigma ?? sigmaOf(choice.kernel_size) : choice[each]);
            }
            follows.box.hidden = !read.includes("sigma");
            follows.set(choice.sigma === null);
            holeBox.hidden = !read.includes("hole");
            if (isFree("hole", ...hole)) hole.forEach((each, i) => (each.value = choice.hole?.[i] ?? ""));
            degradation.set(choice.degradation);
            const more = choice.more.map((each) => `And also: ${words[each][0]}.`);
            also.textContent = [words[choice.degradation][1], ...more].join(" ");
            for (const option of recipe.element.options) {
                const time = durations[option.value];
                const shown = time ? `${option.value}, about ${time}` : option.value;
                if (option.text !== shown) option.text = shown;
            }
            recipe.set(choice.recipe);
            damaged.set(choice.damaged);
            weight.set(choice.latent_weight ?? Number(ownWeight.toPrecision(3)));
            weight.mark(ownWeight);
            ownWords.textContent = recommended;
            own.hidden = choice.latent_weight === null;
            if (isFree("seed", seed)) seed.value = choice.seed;
            answer.textContent = choice.answer ? `This is answer ${choice.answer + 1}.` : "";
            name.textContent = now.name;
            setDamages(now.damages);
            setRefusal(now.field, now.status);
            [...faces.children].forEach((each, i) => each.setAttribute("aria-pressed", i === now.face));
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
