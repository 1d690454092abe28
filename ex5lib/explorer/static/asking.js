// What is asked of a person who restores a photo: which photo, which face, what it suffers from, how thoroughly.

// Keeps elements as long as what they show stays the same: a redrawn one would lose its focus, and a click in progress.
// `isOn(i)` says whether the i-th of their inputs is checked, whatever a click has made of it.
function redrawn(box, make) {
    let last = "";
    return (value, isOn = () => false) => {
        const now = JSON.stringify(value);
        if (now !== last) {
            last = now;
            box.replaceChildren(...make(value));
        }
        box.querySelectorAll("input").forEach((input, i) => (input.checked = isOn(i)));
    };
}

function choice(type, name, onpick, label, ...more) {
    const input = h("input", { type, name });
    input.onchange = () => onpick(input.checked);
    return h("label", { className: "choice" }, input, h("span", {}, h("b", {}, label), ...more));
}

// `take` gets a photo's file; `paint` lets the user mark damage.
function makeAsking(send, take, paint) {
    const file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "photo to restore", tabIndex: -1 });
    file.onchange = () => {
        if (file.files[0]) take(file.files[0]);
        file.value = "";
    };
    const open = button("Choose a photo …", "Choose a photo from this computer", () => file.click());
    const hint = h("span", { className: "soft" }, "or drop it anywhere on this page, or paste it (Ctrl+V)");
    const name = h("b", { className: "name" });
    const drop = h("div", { className: "drop" }, name, open, hint, file);

    const faces = h("div", { className: "faces" });
    const facesBox = h("fieldset", {}, h("legend", {}, "Whose face?"), faces);
    const drawFaces = redrawn(faces, ({ faces: offers, sure }) => [
        ...offers.map(({ picture, words, sure: certain }, i) => {
            const pick = choice("radio", "face", () => send({ do: "pick", face: i }), words,
                certain ? "" : h("span", { className: "soft" }, " perhaps no face"));
            pick.prepend(h("img", { src: picture, alt: "", width: 64, height: 64 }));
            return pick;
        }),
        ...(sure > 1 ? [choice("radio", "face", () => send({ do: "pick", face: null }), sure === 2 ? "Both faces" : `All ${sure} faces`)] : []),
    ]);

    const found = h("div");
    const others = h("div");
    const more = h("details", {}, h("summary", {}, "It suffers from something else"), others);
    const mark = button("", "Paint over what is to be replaced", paint);
    const switchesBox = h("fieldset", {}, h("legend", {}, "What it suffers from"), found, more, mark);
    function switchRow({ name: kind, label, reason, terms }) {
        const box = choice("checkbox", kind, (is) => send({ do: "switch", damage: kind, on: is }), label,
            h("span", { className: "soft" }, `${reason[0].toUpperCase()}${reason.slice(1)}.`));
        return h("div", { className: "switch" }, box, help(label, terms));
    }
    const drawFound = redrawn(found, (all) => (all.length ? all.map(switchRow)
        : [h("p", { className: "soft" }, "No damage was found in this photo.")]));
    const drawOthers = redrawn(others, (all) => all.map(switchRow));

    const recipes = h("div");
    const recipesBox = h("fieldset", {}, h("legend", {}, "How thoroughly?"), recipes);
    const drawRecipes = redrawn(recipes, (all) => all.map(({ name: each, label, time }) =>
        choice("radio", "recipe", () => send({ do: "take", recipe: each }), label,
            h("span", { className: "soft" }, time && ` ${time}`))));

    const boxes = [facesBox, switchesBox, recipesBox];
    return {
        box: h("div", { className: "asking" }, drop, ...boxes),
        mark,
        draw(state) {
            const { phase, photo, faces: offers, switches } = state;
            const busy = phase !== "ready";
            function drawSwitches(drawn, all) {
                drawn(all.map(({ on, ...shown }) => shown), (i) => all[i].on);
            }
            const [seen, unseen] = [true, false].map((is) => switches.filter((each) => each.found === is));
            name.textContent = photo || phase === "looking" ? state.name : "";
            name.hidden = !name.textContent;
            open.textContent = photo ? "Another photo …" : "Choose a photo …";
            drop.classList.toggle("small", Boolean(photo));
            open.classList.toggle("primary", !photo && phase !== "looking");
            for (const each of boxes) {
                each.hidden = !photo;
                each.disabled = busy;
            }
            if (!photo) return;
            facesBox.hidden = offers.length < 2;
            drawFaces({ faces: offers, sure: state.sure }, (i) => i === (state.face ?? offers.length));
            drawSwitches(drawFound, seen);
            drawSwitches(drawOthers, unseen);
            more.hidden = !unseen.length;
            mark.textContent = state.marked ? "Change what is marked …" : "Mark scratches and stains …";
            drawRecipes(state.recipes, (i) => state.recipes[i].name === state.recipe);
        },
    };
}
