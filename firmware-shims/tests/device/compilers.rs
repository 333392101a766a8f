//! The C header under every compiler that firmware people use, and what it costs on a small chip.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::{have, here, run, skipped};

/// Budget of the link on any board: HELLO, LOG, CONFIG, COMMAND and queue.
const TEXT_BYTES_MAX: u64 = 6 * 1024;
/// RAM beside the buffers the firmware chooses.
const RAM_BYTES_MAX: u64 = 512;
/// `rx_buffer` and `tx_buffer` of tests/c/sampler.c.
const BUFFER_BYTES: u64 = 64 + 256;

const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"];
const CORTEX_M3: [&str; 4] = ["-mcpu=cortex-m3", "-mthumb", "-ffreestanding", "-nostdlib"];

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

/// Compiles sources that use all of the header, strictly; false if the compiler is not there.
fn compiles(compiler: &str, package: &str, flags: &[&str]) -> bool {
    if !have(compiler) {
        skipped(&format!("no compiler `{compiler}`: install {package}"));
        return false;
    }
    let object = scratch(&format!("{compiler}.o"));
    // As Arduino finds it, through the forwarder, and as Zephyr does, by its include path.
    for include in ["c/src", "c/include"] {
        for knob in [&[][..], &["-DHW_LINK_KNOB"][..]] {
            let mut command = Command::new(compiler);
            command.args(flags).args(STRICT).args(knob).arg("-I").arg(here().join(include));
            if compiler.ends_with("++") {
                command.args(["-x", "c++"]);
            }
            run(command.arg("-c").arg(here().join("tests/c/sampler.c")).arg("-o").arg(&object));
        }
    }
    fs::remove_file(&object).expect("just written");
    true
}

#[test]
fn c_header_compiles_everywhere() {
    let compiled = [
        compiles("gcc", "gcc", &["-std=c99", "-O2"]),
        compiles("g++", "g++", &["-std=c++11", "-O2"]),
        compiles("avr-gcc", "gcc-avr avr-libc", &["-std=c99", "-Os", "-mmcu=atmega328p"]),
        compiles("avr-g++", "gcc-avr avr-libc", &["-std=c++11", "-Os", "-mmcu=atmega328p"]),
        compiles("arm-none-eabi-gcc", "gcc-arm-none-eabi", &[&["-std=c99", "-Os"][..], &CORTEX_M3].concat()),
    ];
    assert!(compiled.contains(&true), "no compiler at all");
}

#[test]
fn one_folder_is_an_arduino_library_and_a_zephyr_module() {
    let read = |path: &str| {
        fs::read_to_string(here().join("c").join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let forwarder = read("src/headwater_link.h");
    let include = forwarder.lines().find_map(|line| line.strip_prefix("#include \"")).expect("an include");
    let found = here().join("c/src").join(include.trim_end_matches('"')).canonicalize().expect("a file");
    assert_eq!(found, here().join("c/include/headwater_link.h").canonicalize().expect("a file"));
    let library = read("library.properties");
    for wanted in
        ["name=", "version=", "architectures=*", "includes=headwater_link.h", "category=Communication"]
    {
        assert!(library.lines().any(|line| line.starts_with(wanted)), "library.properties lacks {wanted}");
    }
    let version = format!("version={}", env!("CARGO_PKG_VERSION"));
    assert!(library.lines().any(|line| line == version), "both sides have one version: {version}");
    assert!(read("zephyr/module.yml").contains("kconfig: zephyr/Kconfig"));
    assert!(read("zephyr/CMakeLists.txt").contains("zephyr_include_directories(../include)"));
    assert!(read("zephyr/Kconfig").contains("config HEADWATER_LINK"));
    assert!(read("examples/Sampler/Sampler.ino").contains("#include <headwater_link.h>"));
}

/// Bytes of the sampler, linked bare.
#[derive(Debug)]
struct Sizes {
    /// All of it, constants and initial values too.
    flash: u64,
    /// All of it, buffers too.
    ram: u64,
    /// Functions of the application and of the C library it stands in for.
    application: u64,
}

/// The application's own functions in tests/c/sampler.c.
const APPLICATION: [&str; 4] = ["main", "obey", "memcpy", "memset"];

fn link_sampler(prefix: &str, package: &str, flags: &[&str]) -> Option<Sizes> {
    let (gcc, size, nm) = (format!("{prefix}-gcc"), format!("{prefix}-size"), format!("{prefix}-nm"));
    if !have(&gcc) {
        skipped(&format!("no compiler `{gcc}`: install {package}"));
        return None;
    }
    let program = scratch(&format!("{prefix}-sampler.elf"));
    run(Command::new(&gcc)
        .args(flags)
        .args(["-std=c99", "-Os", "-ffunction-sections", "-fdata-sections", "-nostdlib", "-nostartfiles"])
        .args(["-Wl,--gc-sections", "-Wl,--entry=main", "-I"])
        .arg(here().join("c/include"))
        .arg(here().join("tests/c/sampler.c"))
        .args(["-lgcc", "-o"])
        .arg(&program));
    let (table, symbols) =
        (run(Command::new(size).arg(&program)), run(Command::new(nm).arg("-S").arg(&program)));
    fs::remove_file(&program).expect("just written");
    let row = table.lines().nth(1).unwrap_or_else(|| panic!("size says: {table}"));
    let row: Vec<u64> = row.split_whitespace().take(3).map(|n| n.parse().expect("bytes")).collect();
    let application = symbols
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() == 4 && APPLICATION.contains(&words[3]))
        .map(|words| u64::from_str_radix(words[1], 16).expect("bytes"))
        .sum();
    // Initial values lie in flash and in RAM.
    Some(Sizes { flash: row[0] + row[1], ram: row[1] + row[2], application })
}

#[test]
fn shim_sizes() {
    let chips = [
        ("Cortex-M3", link_sampler("arm-none-eabi", "gcc-arm-none-eabi", &CORTEX_M3)),
        // What avr-gcc has for small chips: shared prologues, short jumps.
        (
            "ATmega328P",
            link_sampler(
                "avr",
                "gcc-avr avr-libc",
                &["-mmcu=atmega328p", "-mcall-prologues", "-mrelax", "-mstrict-X"],
            ),
        ),
    ];
    for (chip, sizes) in chips {
        let Some(Sizes { flash, ram, application }) = sizes else { continue };
        // On a Cortex-M most of the link is melted into `main`, which then counts as the link's.
        let link = if application * 4 > flash { flash } else { flash - application };
        let ram = ram - BUFFER_BYTES;
        println!(
            "{chip}: sampler {flash} B of flash, of it the link {link} B; {ram} B of RAM beside {BUFFER_BYTES} B of buffers"
        );
        assert!(link <= TEXT_BYTES_MAX, "{chip}: the link takes {link} B of flash, budget {TEXT_BYTES_MAX}");
        assert!(ram <= RAM_BYTES_MAX, "{chip}: {ram} B of RAM, budget {RAM_BYTES_MAX}");
        assert!(link > 1_000 && ram > 100, "{chip}: a sampler that was optimised away");
    }
}
