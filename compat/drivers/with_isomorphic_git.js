// isomorphic-git, in any release since 1.0: actions as in README.md.
const fs = require("fs");
const git = require("isomorphic-git");
const http = require("isomorphic-git/http/node");
const [action, url, dir] = process.argv.slice(2);
const common = { fs, http, dir, url };
const who = { name: "A", email: "a@b" };

async function run() {
  if (action === "clone") await git.clone({ ...common, singleBranch: false });
  if (action === "shallow") await git.clone({ ...common, depth: 2 });
  if (action === "fetch") await git.fetch({ ...common, remote: "origin", ref: "main" });
  if (action === "push") {
    fs.writeFileSync(`${dir}/isomorphic.txt`, "x");
    await git.add({ fs, dir, filepath: "isomorphic.txt" });
    await git.commit({ fs, dir, message: "isomorphic", author: who });
    await git.push({ ...common, remote: "origin", ref: "main" });
  }
  if (action === "delete") await git.push({ ...common, remote: "origin", ref: "main", remoteRef: "topic", delete: true });
}

run().catch((error) => {
  console.error(error);
  process.exit(1);
});
