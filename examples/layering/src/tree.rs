//! A crate's modules: what each defines, which names it binds to what, and which paths it writes.
#![expect(clippy::wildcard_enum_match_arm, reason = "enums of the parser, which may grow")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

use crate::CheckError;

/// A module by its path from the crate's root, whose own path is empty.
pub(crate) type ModulePath = Vec<String>;

/// One module.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    pub(crate) children: BTreeSet<String>,
    /// Names of items that it defines itself.
    defined: BTreeSet<String>,
    /// What `use` binds: a name to a path as it is written.
    bound: BTreeMap<String, Vec<String>>,
    /// Paths of `use a::*`.
    globs: Vec<Vec<String>>,
    /// Paths that are written in it, with their lines.
    pub(crate) paths: Vec<(Vec<String>, usize)>,
}

/// All modules of a crate.
pub(crate) type Tree = BTreeMap<ModulePath, Module>;

/// Reads a crate from its `src/lib.rs` on.
pub(crate) fn read(folder: &Path) -> Result<Tree, CheckError> {
    let source = folder.join("src");
    let mut tree = Tree::new();
    read_file(&mut tree, Vec::new(), &source.join("lib.rs"), &source)?;
    Ok(tree)
}

/// Reads a module's file; `beside` is the folder that has those of its children.
fn read_file(tree: &mut Tree, path: ModulePath, file: &Path, beside: &Path) -> Result<(), CheckError> {
    let text = fs::read_to_string(file).map_err(|error| CheckError::Read(file.to_owned(), error))?;
    let parsed = syn::parse_file(&text).map_err(|error| CheckError::Parse(file.to_owned(), error))?;
    read_items(tree, path, file, beside, &parsed.items)
}

fn read_items(
    tree: &mut Tree,
    path: ModulePath,
    file: &Path,
    beside: &Path,
    items: &[Item],
) -> Result<(), CheckError> {
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    let mut inner = Vec::new();
    for item in items {
        if let Some(name) = defines(item) {
            module.defined.insert(name);
        }
        match item {
            Item::Mod(of) if !is_test(&of.attrs) => inner.push(of),
            Item::Use(of) if !is_test(&of.attrs) => {
                let mut flat = Vec::new();
                flatten(&of.tree, &mut Vec::new(), &mut flat);
                for (name, target) in flat {
                    match name {
                        Some(name) => _ = module.bound.insert(name, target),
                        None => module.globs.push(target),
                    }
                }
            }
            _ => {}
        }
    }
    module.children = inner.iter().map(|of| of.ident.to_string()).collect();
    let mut writer = Paths { module: &mut module };
    items.iter().for_each(|item| writer.visit_item(item));
    tree.insert(path.clone(), module);
    for ItemMod { ident, content, .. } in inner {
        let name = ident.to_string();
        let child: ModulePath = path.iter().cloned().chain([name.clone()]).collect();
        let folder = beside.join(&name);
        if let Some((_, items)) = content {
            read_items(tree, child, file, &folder, items)?;
            continue;
        }
        let flat = beside.join(format!("{name}.rs"));
        let file = if flat.exists() { flat } else { folder.join("mod.rs") };
        read_file(tree, child, &file, &folder)?;
    }
    Ok(())
}

/// The name of an item that others can use.
fn defines(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(of) => of.ident.to_string(),
        Item::Enum(of) => of.ident.to_string(),
        Item::Fn(of) => of.sig.ident.to_string(),
        Item::Static(of) => of.ident.to_string(),
        Item::Struct(of) => of.ident.to_string(),
        Item::Trait(of) => of.ident.to_string(),
        Item::Type(of) => of.ident.to_string(),
        Item::Union(of) => of.ident.to_string(),
        Item::Macro(of) => of.ident.as_ref()?.to_string(),
        _ => return None,
    })
}

/// Whether something is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("test") {
            return true;
        }
        let Ok(list) = attribute.meta.require_list() else { return false };
        // `cfg(test)`, `cfg(doctest)` and `cfg(all(test, ..))`; `not(test)` is product code.
        let text = list.tokens.to_string();
        list.path.is_ident("cfg")
            && !text.contains("not")
            && words(&text).any(|word| word == "test" || word == "doctest")
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|of: char| !of.is_alphanumeric() && of != '_')
}

/// The names that a `use` binds, with their paths; without a name for all names of a module.
fn flatten(tree: &UseTree, before: &mut Vec<String>, found: &mut Vec<(Option<String>, Vec<String>)>) {
    match tree {
        UseTree::Path(of) => {
            before.push(of.ident.to_string());
            flatten(&of.tree, before, found);
            before.pop();
        }
        UseTree::Name(of) => {
            let name = of.ident.to_string();
            if name == "self" {
                found.push((before.last().cloned(), before.clone()));
            } else {
                let path = before.iter().cloned().chain([name.clone()]).collect();
                found.push((Some(name), path));
            }
        }
        UseTree::Rename(of) => {
            let name = of.ident.to_string();
            let path =
                if name == "self" { before.clone() } else { before.iter().cloned().chain([name]).collect() };
            found.push((Some(of.rename.to_string()), path));
        }
        UseTree::Glob(_) => found.push((None, before.clone())),
        UseTree::Group(of) => of.items.iter().for_each(|tree| flatten(tree, before, found)),
    }
}

/// Collects the paths that a module writes, but for those of its inline modules and of tests.
struct Paths<'a> {
    module: &'a mut Module,
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Const(of) => &of.attrs,
            Item::Enum(of) => &of.attrs,
            Item::Fn(of) => &of.attrs,
            Item::Impl(of) => &of.attrs,
            Item::Static(of) => &of.attrs,
            Item::Struct(of) => &of.attrs,
            Item::Trait(of) => &of.attrs,
            Item::Type(of) => &of.attrs,
            Item::Use(of) => &of.attrs,
            Item::Mod(_) => return,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut flat = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut flat);
        let line = item.span().start().line;
        // A re-export makes nothing depend on what it names: whoever uses the name depends on its module.
        if matches!(item.vis, Visibility::Inherited) {
            self.module.paths.extend(flat.into_iter().map(|(_, path)| (path, line)));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.module.paths.push((names, path.span().start().line));
        }
        visit::visit_path(self, path);
    }

    // `pub(in crate::a)` says who may use something, not what is used.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// The module that defines what a path in module `at` names. `None` for other crates' items and for what cannot be
/// told.
pub(crate) fn resolve(tree: &Tree, at: &[String], path: &[String]) -> Option<ModulePath> {
    follow(tree, at, path, 0)
}

fn follow(tree: &Tree, at: &[String], path: &[String], depth: usize) -> Option<ModulePath> {
    // Names that are bound to each other in a circle do not compile, but must not hang this either.
    if depth > DEEPEST {
        return None;
    }
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => return descend(tree, Vec::new(), rest, depth),
        "self" => return descend(tree, at.to_vec(), rest, depth),
        "super" => return descend(tree, at.split_last()?.1.to_vec(), rest, depth),
        _ => {}
    }
    let module = tree.get(at)?;
    if module.children.contains(first) || module.defined.contains(first) || module.bound.contains_key(first) {
        return descend(tree, at.to_vec(), path, depth);
    }
    None
}

/// Goes from a module down a path.
fn descend(tree: &Tree, at: ModulePath, path: &[String], depth: usize) -> Option<ModulePath> {
    let module = tree.get(&at)?;
    let Some((first, rest)) = path.split_first() else { return Some(at) };
    if first == "super" {
        return descend(tree, at.split_last()?.1.to_vec(), rest, depth);
    }
    if module.children.contains(first) {
        let child = at.iter().cloned().chain([first.clone()]).collect();
        return descend(tree, child, rest, depth);
    }
    if module.defined.contains(first) {
        return Some(at);
    }
    if let Some(target) = module.bound.get(first) {
        let target: Vec<String> = target.iter().chain(rest).cloned().collect();
        return follow(tree, &at, &target, depth + 1);
    }
    let of_glob = module.globs.iter().find_map(|glob| {
        let target: Vec<String> = glob.iter().chain(path).cloned().collect();
        follow(tree, &at, &target, depth + 1)
    });
    // Something that this module does not seem to have, such as what a macro of its defines, is its own.
    Some(of_glob.unwrap_or(at))
}

const DEEPEST: usize = 32;
