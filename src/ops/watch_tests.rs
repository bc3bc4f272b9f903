//! Ways to files over links, and news of what happens on them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{News, Watcher, Ways};
use crate::acme::store::tests::Scratch;
use crate::io::sys::Inotify;

const LONG: Duration = Duration::from_secs(10);

fn way(path: &Path) -> Vec<PathBuf> {
    Ways::default().to(path).into_iter().map(|(directory, name)| directory.join(name)).collect()
}

/// News after `act`, all that come until they name `path`.
fn news(watcher: &mut Watcher, path: &Path, act: impl FnOnce()) -> News {
    act();
    loop {
        let news = watcher.wait(LONG);
        assert!(!news.paths.is_empty() || news.lost, "no news of {}", path.display());
        if news.paths.contains(path) {
            return news;
        }
    }
}

#[test]
fn every_link_on_the_way_counts() {
    let scratch = Scratch::new("way");
    let home = fs::canonicalize(&scratch.path).unwrap();
    for directory in ["archive/a", "live/a", "data-1"] {
        fs::create_dir_all(home.join(directory)).unwrap();
    }
    fs::write(home.join("archive/a/cert1.pem"), "").unwrap();
    symlink("../../archive/a/cert1.pem", home.join("live/a/cert.pem")).unwrap();
    let certbot = way(&home.join("live/a/cert.pem"));
    assert_eq!(certbot, [home.join("live/a/cert.pem"), home.join("archive/a/cert1.pem")]);

    fs::write(home.join("data-1/tls.crt"), "").unwrap();
    symlink("data-1", home.join("..data")).unwrap();
    symlink("..data/tls.crt", home.join("tls.crt")).unwrap();
    let kubernetes = way(&home.join("tls.crt"));
    assert_eq!(kubernetes, [home.join("tls.crt"), home.join("..data"), home.join("data-1/tls.crt")]);

    symlink(home.join("live"), home.join("now")).unwrap();
    let above = way(&home.join("now/a/cert.pem"));
    assert_eq!(above[0], home.join("now"));
    assert_eq!(above[1..], certbot[..]);

    assert_eq!(way(&home.join("plain.pem")), [home.join("plain.pem")]);
    let missing = way(&home.join("none/a.pem"));
    assert_eq!(missing[0], home.join("none"), "its coming is news");
    symlink("loop", home.join("loop")).unwrap();
    assert!(!way(&home.join("loop")).is_empty(), "and has an end");
}

#[test]
fn exchanges_on_the_way_are_news_of_the_file() {
    let scratch = Scratch::new("news");
    let home = fs::canonicalize(&scratch.path).unwrap();
    fs::create_dir(home.join("one")).unwrap();
    fs::create_dir(home.join("two")).unwrap();
    fs::write(home.join("one/a.pem"), "1").unwrap();
    fs::write(home.join("two/a.pem"), "2").unwrap();
    symlink("one", home.join("now")).unwrap();
    let path = home.join("now/a.pem");
    let mut watcher = Watcher::new(Inotify::new().unwrap());
    watcher.watch(&path, &mut Ways::default());
    news(&mut watcher, &path, || fs::write(home.join("one/a.pem"), "3").unwrap());
    news(&mut watcher, &path, || {
        symlink("two", home.join("next")).unwrap();
        fs::rename(home.join("next"), home.join("now")).unwrap();
    });
    watcher.watch(&path, &mut Ways::default());
    news(&mut watcher, &path, || {
        fs::write(home.join("two/new"), "4").unwrap();
        fs::rename(home.join("two/new"), home.join("two/a.pem")).unwrap();
    });
    fs::write(home.join("one/a.pem"), "5").unwrap();
    fs::write(home.join("two/other"), "").unwrap();
    assert!(!watcher.wait(LONG).paths.contains(&path), "the old place and other files are no news of it");
    news(&mut watcher, &path, || fs::remove_dir_all(home.join("two")).unwrap());
}

#[test]
fn a_plain_file_costs_no_entry_and_its_directory_may_be_exchanged() {
    let scratch = Scratch::new("plain");
    let home = fs::canonicalize(&scratch.path).unwrap();
    fs::create_dir(home.join("tls")).unwrap();
    let path = home.join("tls/a.pem");
    let mut watcher = Watcher::new(Inotify::new().unwrap());
    watcher.watch(&path, &mut Ways::default());
    assert!(watcher.dependents.is_empty() && watcher.linked.is_empty());
    news(&mut watcher, &path, || fs::write(&path, "1").unwrap());
    fs::rename(home.join("tls"), home.join("old")).unwrap();
    assert!(watcher.wait(LONG).lost, "everything is looked at");
    watcher.watch(&path, &mut Ways::default());
    news(&mut watcher, &home.join("tls"), || fs::create_dir(home.join("tls")).unwrap());
    assert!(watcher.linked.contains_key(&*path), "what is missing is waited for");
    watcher.watch(&path, &mut Ways::default());
    news(&mut watcher, &path, || fs::write(&path, "2").unwrap());
}
