// The pictures that this browser has made, kept in IndexedDB: they outlive a reload, and the server keeps none of them.

const DATABASE = "modelshelf";
const PICTURES = "pictures";
const MOST_KEPT = 300; // the oldest go first

const settled = (request) => new Promise((done, failed) => {
  request.onsuccess = () => done(request.result);
  request.onerror = () => failed(request.error);
});

let opened = null;
function open() {
  opened ??= (() => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(PICTURES, { keyPath: "id", autoIncrement: true });
    return settled(request);
  })();
  return opened;
}

const pictures = async (mode) => (await open()).transaction(PICTURES, mode).objectStore(PICTURES);

// Newest first.
export const all = async () => (await settled((await pictures("readonly")).getAll())).reverse();

export async function add(picture) {
  const store = await pictures("readwrite");
  const id = await settled(store.add(picture));
  const keys = await settled(store.getAllKeys());
  for (const old of keys.slice(0, Math.max(0, keys.length - MOST_KEPT))) store.delete(old);
  return { ...picture, id };
}

export const remove = async (id) => settled((await pictures("readwrite")).delete(id));
