// Values as people read them.

export const KINDS = { checkpoint: "Checkpoint", lora: "LoRA", lcm_lora: "LCM-LoRA" };
const WHAT = { lora: "an ordinary LoRA", lcm_lora: "an LCM-LoRA" };
export const whose = ({ family, kind }) => (kind === "checkpoint" ? family : `for ${family}`);
// What a user can say of a model that its header leaves open: of each candidate, {family, kind}, what tells it from the others, and in words.
export const sayings = (candidates) => {
  const differ = (word) => new Set(candidates.map((candidate) => candidate[word])).size > 1;
  const telling = ["family", "kind"].filter(differ);
  return candidates.map((candidate) => ({
    said: Object.fromEntries(telling.map((word) => [word, candidate[word]])),
    text: `It is ${[differ("kind") ? WHAT[candidate.kind] : "", differ("family") ? whose(candidate) : ""].filter(Boolean).join(" ")}`,
  }));
};
// Families of the same layers, to be told behind the likeliest: "or kolors".
export const orOthers = (report) => {
  const others = (report.choices ?? []).slice(1).map(({ family }) => family);
  return report.outcome === "identified" && others.length ? `or ${others.join(", ")}` : "";
};
export const kindName = (kind) => KINDS[kind] ?? kind ?? "unknown";

const UNITS = ["B", "kB", "MB", "GB", "TB"];
export function bytes(count) {
  let value = count || 0, power = 0;
  // What is rounded decides: 999.6 kB are 1.0 MB.
  for (; Math.round(value) >= 1000 && power < UNITS.length - 1; power++) value /= 1000;
  return `${power && value < 99.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[power]}`;
}

export function seconds(count) {
  if (!Number.isFinite(count)) return "";
  if (count < 60) return `${count < 10 ? count.toFixed(1) : Math.round(count)} s`;
  const minutes = Math.round(count / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const number = (value) => (typeof value === "number" ? String(Number(value.toFixed(3))) : String(value));

export const date = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

// Where a value came from: {value, origin, by} of the REST interface.
const ORIGINS = {
  requested: () => "your choice",
  user: (by) => by,
  recommended: (by) => `recommended by ${by}`,
  default: (by) => `default: ${by}`,
};
export const provenance = (value) => (ORIGINS[value.origin] ?? ((by) => by))(value.by);
// Without the passage that it was read from.
export const briefly = (value) => provenance({ ...value, by: value.by.replace(/: “.*”$/s, "") });
