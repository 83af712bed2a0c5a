//! Real files, by real producers: each is taken for what its name says, and those of a kind that browsers
//! show are shown. `tests/corpus/make.py` makes them; the set-up runs it once, for the packages that
//! scripts/corpus.txt names.
//!
//! The numbers stand in docs/file-types.md. `KEEPSAKE_WRITE_TABLE=1` writes them there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keepsake_shared::content::{Finding, Inspection, Next, Picture, Piece};
use keepsake_shared::{FileName, FileTypes, MediaType};
use keepsake_tests::places::{checkout, home};

/// Fewer would mean that a producer has stopped to make anything.
const FEWEST_FILES: usize = 300;

/// Producers whose files are taken and, on purpose, not shown in place: something stands before them.
const NOT_SHOWN: [&str; 1] = ["pypdf reads past what stands before"];

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(file: &mut File, piece: Piece) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(piece.offset))?;
    let mut bytes = Vec::new();
    file.take(piece.length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn inspect(media_type: MediaType, path: &Path) -> Result<Finding> {
    let mut file = File::open(path)?;
    let mut inspection = Inspection::new(media_type, file.metadata()?.len());
    loop {
        match inspection.step() {
            Next::Found(finding) => return Ok(finding),
            Next::Read(piece) => inspection.add(piece, read(&mut file, piece)?),
        }
    }
}

/// What is wrong with what the rules say of a file.
fn fault(path: &Path, media_type: MediaType) -> Result<Option<String>> {
    let finding = inspect(media_type, path)?;
    if let Err(mismatch) = media_type.check(finding.kind) {
        return Ok(Some(mismatch.to_string()));
    }
    if finding.picture == Picture::Unreadable {
        return Ok(Some("its size cannot be read".to_owned()));
    }
    let hidden = NOT_SHOWN.iter().any(|producer| {
        path.parent()
            .is_some_and(|parent| parent.ends_with(producer))
    });
    let wrong = media_type.is_inline_safe() && finding.is_plain == hidden;
    Ok(wrong.then(|| format!("is_plain is {}", finding.is_plain)))
}

#[test]
fn every_real_file_is_what_its_name_says() -> Result<()> {
    let folder = home()?.join("corpus/files");
    let all = files(&folder)
        .with_context(|| format!("{} is not there: run `make setup`", folder.display()))?;
    ensure!(all.len() >= FEWEST_FILES, "{} files", all.len());
    let mut counts: BTreeMap<&str, (usize, std::collections::BTreeSet<String>)> = BTreeMap::new();
    let mut faults = Vec::new();
    for path in &all {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("no name")?;
        let name = FileName::parse(name).with_context(|| name.to_owned())?;
        let Some(media_type) = FileTypes::every().of_name(&name) else {
            continue;
        };
        if let Some(fault) = fault(path, media_type)? {
            faults.push(format!("{}: {fault}", path.display()));
        }
        let producer = path.parent().and_then(Path::file_name).unwrap_or_default();
        let count = counts.entry(media_type.as_str()).or_default();
        count.0 += 1;
        count.1.insert(producer.to_string_lossy().into_owned());
    }
    ensure!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        all.len(),
        faults.join("\n")
    );
    compare_table(&counts, all.len())
}

const BEGIN: &str = "<!-- corpus -->\n";
const END: &str = "<!-- end of corpus -->\n";

fn compare_table(
    counts: &BTreeMap<&str, (usize, std::collections::BTreeSet<String>)>,
    total: usize,
) -> Result<()> {
    let mut table = format!("{total} files, each taken.\n\n| type | files | by |\n|---|---|---|\n");
    for (media_type, (count, producers)) in counts {
        let producers: Vec<&str> = producers.iter().map(String::as_str).collect();
        table += &format!("| `{media_type}` | {count} | {} |\n", producers.join(", "));
    }
    let place = checkout().join("docs/file-types.md");
    let text = fs::read_to_string(&place)?;
    let (before, rest) = text.split_once(BEGIN).context("no place for the table")?;
    let (written, after) = rest.split_once(END).context("no end of the table")?;
    if std::env::var_os("KEEPSAKE_WRITE_TABLE").is_some() {
        fs::write(&place, format!("{before}{BEGIN}{table}{END}{after}"))?;
        return Ok(());
    }
    ensure!(
        written == table,
        "docs/file-types.md has other numbers: run this with KEEPSAKE_WRITE_TABLE=1. Now it is\n{table}"
    );
    Ok(())
}
