// A served page: a model with the methods of a widget's model that explorer.js uses. It asks the server for changes, one
// request at a time, and posts messages in order.

const GONE = "The program behind this page does not answer: start it again, and open the address that it prints.";

function connect(token) {
    const values = {};
    const handlers = {};
    let version = 0;
    let posted = Promise.resolve();

    const query = (path, more = {}) => `${path}?${new URLSearchParams({ token, ...more })}`;
    const fire = (event, ...rest) => (handlers[event] ?? []).forEach((handler) => handler(...rest));
    const gone = (error) => fire("msg:custom", { problem: error.answer ?? GONE });
    const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

    async function call(address, more) {
        const reply = await fetch(address, more);
        if (!reply.ok) throw Object.assign(new Error(), { answer: await reply.text() });
        return reply;
    }
    async function ask() {
        const reply = await call(query("changes", { since: version }));
        const news = await reply.json();
        version = news.version;
        for (const [name, value] of Object.entries(news.values)) {
            values[name] = value?.base64 === undefined ? value : bytes(value.base64);
        }
        for (const name of Object.keys(news.values)) fire(`change:${name}`);
    }
    async function follow() {
        for (;;) {
            try {
                await ask();
            } catch (error) {
                gone(error);
                await pause(2);
            }
        }
    }
    async function post(message, body) {
        try {
            await call(query("send", { message: JSON.stringify(message) }), { method: "POST", body });
        } catch (error) {
            gone(error);
        }
    }
    return {
        nobody: GONE,
        get: (name) => values[name],
        on: (event, handler) => (handlers[event] ??= []).push(handler),
        off: (event, handler) => (handlers[event] = handlers[event].filter((each) => each !== handler)),
        send(message, _, buffers = []) {
            if (message.do !== "download") {
                posted = posted.then(() => post(message, buffers[0]));
                return;
            }
            const href = query("archive", message.picture ? { picture: message.picture } : {});
            Object.assign(document.createElement("a"), { href, download: "" }).click();
            fire("msg:custom", {}); // an answer: the browser does the rest
        },
        async ready() {
            await ask();
            follow();
        },
    };
}

const main = document.querySelector("main");
const { token } = main.dataset;
const { default: explorer } = await import(`./explorer.js?token=${token}`);
const model = connect(token);
await model.ready();
explorer.render({ model, el: main });
