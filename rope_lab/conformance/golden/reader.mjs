// Compare a rotation with the golden vectors of rope-1.json, a file beside this one. It needs Node 18 and no package.
import { readFileSync } from "node:fs";

export const cases = (file = new URL("rope-1.json", import.meta.url)) => JSON.parse(readFileSync(file, "utf8")).cases;

const flat = (x) => (x?.map ? Array.from(x).flatMap(flat) : [x]); // a row may be a Float32Array

// Prints the cases in which rotate(one) is off, and returns their names; null means that it is not offered.
export function check(rotate, dtype = "float64") {
  const failed = [];
  const shape = (x) => (x?.map ? [x.length, ...shape(x[0])] : []);
  for (const one of cases()) {
    const [name, allowed, found] = [one.name, one.tolerance[dtype], rotate(one)];
    if (found == null) {
      console.log(`not offered: ${name}`);
      continue;
    }
    const [left, right] = [flat(found), flat(one.expected)];
    const same = String(shape(found)) === String(shape(one.expected)) && left.length === right.length;
    const error = same ? left.reduce((most, x, i) => Math.max(most, Math.abs(x - right[i])), 0) : Infinity;
    if (!(error <= allowed)) {
      failed.push(name);
      console.log(`FAILED: ${name} is off by ${error.toExponential(1)}, allowed ${allowed.toExponential(1)}`);
    }
  }
  return failed;
}
