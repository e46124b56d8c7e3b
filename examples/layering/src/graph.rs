//! The rules, over which module uses which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::tree::{ModulePath, Tree, read, resolve};
use crate::{CheckError, Layers, Use, Violation};

/// Which of some modules use which, each use with an example.
type Graph = BTreeMap<String, BTreeMap<String, Use>>;

/// Checks a crate; an empty list says that its layering holds.
///
/// # Errors
/// [`CheckError`] when its source cannot be read, or a layer is named that is not there.
pub fn check(crate_layers: Layers<'_>) -> Result<Vec<Violation>, CheckError> {
    let tree = read(crate_layers.folder)?;
    let uses = uses(&tree);
    let mut violations = Vec::new();
    for (folder, module) in &tree {
        if module.children.len() > 1 {
            let graph = between_children(folder, &uses);
            violations.extend(circles(folder, &graph));
            if folder.is_empty() {
                let known = |name: &&&str| !module.children.contains(**name);
                if let Some(name) = crate_layers.layers.iter().copied().flatten().find(known) {
                    return Err(CheckError::NoModule((*name).to_owned()));
                }
                violations.extend(upwards(&graph, crate_layers.layers));
            }
        }
    }
    Ok(violations)
}

/// Every use of one module's by another.
fn uses(tree: &Tree) -> Vec<(ModulePath, ModulePath, Use)> {
    let mut all = Vec::new();
    for (from, module) in tree {
        for (path, line) in &module.paths {
            let Some(to) = resolve(tree, from, path).filter(|to| to != from) else { continue };
            let show = |path: &ModulePath| if path.is_empty() { "crate".to_owned() } else { path.join("::") };
            let example = Use { file: module.file.clone(), line: *line, from: show(from), to: show(&to) };
            all.push((from.clone(), to, example));
        }
    }
    all
}

/// The uses between a folder's modules, each of which stands for all that is below it.
fn between_children(folder: &[String], uses: &[(ModulePath, ModulePath, Use)]) -> Graph {
    let mut graph = Graph::new();
    for (from, to, example) in uses {
        let child = |path: &ModulePath| path.strip_prefix(folder)?.first().cloned();
        let (Some(from), Some(to)) = (child(from), child(to)) else { continue };
        if from != to {
            let known = graph.entry(from).or_default().entry(to).or_insert_with(|| example.clone());
            *known = known.clone().min(example.clone());
        }
    }
    graph
}

/// One violation for each group of modules that use each other: its shortest circle.
fn circles(folder: &[String], graph: &Graph) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        if done.contains(start) {
            continue;
        }
        let Some(circle) = way(graph, start, start) else { continue };
        let group = graph
            .keys()
            .filter(|other| way(graph, start, other).is_some() && way(graph, other, start).is_some());
        let group: BTreeSet<String> = group.cloned().collect();
        let place = if folder.is_empty() { "the crate".to_owned() } else { folder.join("::") };
        let names: Vec<&str> = group.iter().map(String::as_str).collect();
        found.push(Violation { what: format!("circle in {place} among {}", names.join(", ")), uses: circle });
        done.extend(group);
    }
    found
}

/// The shortest chain of uses from one module to another, at least one long.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<Use>> {
    // By which use each module was reached first.
    let mut reached: BTreeMap<&str, (&str, &Use)> = BTreeMap::new();
    let mut waiting = VecDeque::from([from]);
    while let Some(at) = waiting.pop_front() {
        for (next, example) in graph.get(at).into_iter().flatten() {
            if !reached.contains_key(next.as_str()) {
                reached.insert(next, (at, example));
                waiting.push_back(next);
            }
        }
        if reached.contains_key(to) {
            break;
        }
    }
    let mut chain = Vec::new();
    let mut at = to;
    loop {
        let (before, example) = reached.get(at)?;
        chain.push((*example).clone());
        at = before;
        if at == from {
            chain.reverse();
            return Some(chain);
        }
    }
}

/// Chains of uses from a layer to a higher one, or within a layer between its modules.
fn upwards(graph: &Graph, layers: &[&[&str]]) -> Vec<Violation> {
    let level = |name: &str| layers.iter().position(|layer| layer.contains(&name));
    // Who is not named is below the highest layer.
    let below_highest = layers.len().saturating_sub(1);
    let mut found = Vec::new();
    for from in graph.keys() {
        for (to, high) in
            layers.iter().enumerate().flat_map(|(at, layer)| layer.iter().map(move |name| (*name, at)))
        {
            let low = level(from).unwrap_or_else(|| below_highest.saturating_sub(1));
            let points_up =
                if level(from).is_some() { low <= high && from != to } else { high == below_highest };
            if points_up
                && let Some(chain) = way(graph, from, to)
                // A longer chain is told of where it goes up.
                && chain.iter().skip(1).all(|of| level(top(&of.from)).is_none())
            {
                found.push(Violation {
                    what: format!("{from} is below {to}, or beside it, and uses it"),
                    uses: chain,
                });
            }
        }
    }
    found
}

/// The module of the root that a path begins with.
fn top(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}
