//! Checks of the whole project that run as tests: contracts, layout, purity, ownership of SQL.

#[cfg(test)]
mod contracts;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod layout;

/// The root of the project.
#[cfg(test)]
fn root() -> std::path::PathBuf {
    testkit::root()
}

/// Every file under a folder whose name ends so.
#[cfg(test)]
fn files(folder: &str, ending: &str) -> Vec<std::path::PathBuf> {
    fn walk(folder: &std::path::Path, ending: &str, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no {ending} under {folder}");
    found
}

/// The text of a file that is shipped, without its comments and the tests at its end.
#[cfg(test)]
fn shipped(path: &std::path::Path) -> String {
    if path.ends_with("tests.rs") {
        return String::new();
    }
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_comment = |line: &&str| line.trim_start().starts_with("//") || line.trim_start().starts_with("--");
    code.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n")
}
