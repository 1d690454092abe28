// The model of a page of its own, with the few methods of a widget's that explorer.js uses. It asks the server for changes, one question at a time, and
// posts messages in order.
export function connect(token) {
    const values = { about: null };
    const handlers = {};
    const fire = (event, ...rest) => (handlers[event] ?? []).slice().forEach((handler) => handler(...rest));
    const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    let version = 0;
    let posting = Promise.resolve();
    const query = (path, more = "") => `${path}?token=${encodeURIComponent(token)}${more}`;
    const gone = () => fire("msg:custom", { problem: "The program behind this page does not answer: start it again, then reload the page." });
    async function ask() {
        const reply = await fetch(query("changes", `&since=${version}`));
        if (!reply.ok) throw new Error(reply.statusText);
        const news = await reply.json();
        version = news.version;
        for (const [name, value] of Object.entries(news.values)) values[name] = value?.base64 === undefined ? value : bytes(value.base64);
        for (const name of Object.keys(news.values)) fire(`change:${name}`);
    }
    async function follow() {
        for (;;) {
            try {
                await ask();
            } catch {
                gone();
                await new Promise((resolve) => setTimeout(resolve, 2000));
            }
        }
    }
    const model = {
        get: (name) => values[name],
        on: (event, handler) => (handlers[event] ??= []).push(handler),
        off: (event, handler) => (handlers[event] = (handlers[event] ?? []).filter((each) => each !== handler)),
        send(message, _, buffers = []) {
            if (message.do === "download") {
                Object.assign(document.createElement("a"), { href: query("archive"), download: "" }).click();
                return;
            }
            const post = () => fetch(query("send", `&message=${encodeURIComponent(JSON.stringify(message))}`), { method: "POST", body: buffers[0] }).catch(gone);
            posting = posting.then(post);
        },
        async ready() {
            await ask();
            follow();
        },
    };
    return model;
}
