//! Plain copies of pairs for other programs: `NAME.pem` and `NAME.key` in a directory of the operator's.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::acme::read_anyway;
use super::pair::Pair;
use super::{Error, file_name, io_error, sync_dir, write_temporary_as};

/// What an export did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// New files are there.
    Written,
    /// The files were there already, with this content.
    Unchanged,
}

/// Writes `NAME.pem` (the chain, 0644) and `NAME.key` (0600) into a directory, made if it is not there. Both are whole
/// under other names, and on disk, before either is renamed; then the key goes first. A program that loads
/// both when `NAME.pem` changes therefore always finds the key that belongs to it, unless the next export is upon it already; had the certificate
/// gone first, it could have loaded it with the old key. A program that *starts* between the two
/// renames finds the old certificate with the new key: it should try again, as for any pair in two files.
/// A process killed between them leaves that state until the next export, so one is made at each start.
///
/// # Errors
/// [`Error::BadName`], [`Error::NotADirectory`], [`Error::Io`]; after a failure to write, the old files
/// stand.
pub fn export(directory: &Path, name: &str, pair: &Pair) -> Result<Exported, Error> {
    make_public_dir(directory)?;
    let name = file_name(name)?;
    let files = [
        (format!("{name}.key"), pair.key.as_bytes(), 0o600),
        (format!("{name}.pem"), pair.certificate.as_bytes(), 0o644),
    ];
    let is_there = |(name, content, _): &(String, &[u8], u32)| {
        let found = read_anyway(&directory.join(name)).ok().flatten().map(zeroize::Zeroizing::new);
        found.is_some_and(|found| found.as_slice() == *content)
    };
    if files.iter().all(is_there) {
        return Ok(Exported::Unchanged);
    }
    let mut written = Vec::new();
    let put = files
        .iter()
        .try_for_each(|(name, content, mode)| {
            written.push((write_temporary_as(directory, content, *mode)?, directory.join(name)));
            Ok(())
        })
        .and_then(|()| {
            written.iter().try_for_each(|(from, to)| {
                fs::rename(from, to).map_err(|error| io_error("replace", to, error))
            })
        });
    if put.is_err() {
        for (from, _) in &written {
            let _ = fs::remove_file(from);
        }
    }
    put?;
    sync_dir(directory)?;
    Ok(Exported::Written)
}

/// Others may look into it: the chains are for them, and the keys have their own mode.
fn make_public_dir(path: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o755).recursive(true).create(path) {
        Ok(()) => Ok(()),
        Err(_) if path.exists() => Err(Error::NotADirectory(path.to_owned())),
        Err(error) => Err(io_error("make directory", path, error)),
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
