# SPDX-License-Identifier: BSD-2-Clause
"""The manual and the README say what the program does: verbs, options, codes, examples, in both directions."""
import glob
import json
import os
import re
import shlex
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = f"{os.environ.get('DERPTRACE_BUILD', f'{ROOT}/build')}/derptrace"
DOC = f"{ROOT}/doc"
OPTION = re.compile(r"^  (?:-(\w), |    )--([a-z-]+)(?: ([A-Z:]+))?(?:\s|$)")
NO_SOURCES = {"map", "doctor"}          # verbs that trace nothing and take none of the shared options


def read(path):
    with open(f"{ROOT}/{path}") as f:
        return f.read()


def help_of(*words):
    done = subprocess.run([PROGRAM, *words, "--help"], capture_output=True, text=True, check=True)
    return done.stdout


def help_options(*words):
    """{long name: (short letter or None, argument or None)} of a verb's help."""
    rows = [OPTION.match(line) for line in help_of(*words).splitlines()]
    return {m[2]: (m[1], m[3]) for m in rows if m}


def verbs():
    names = re.findall(r"^  ([a-z]+) +\S", help_of().split("Verbs:")[1], re.M)
    assert names, "derptrace --help lists no verbs"
    return names


def page(verb=None):
    return read(f"doc/derptrace{'-' + verb if verb else ''}.1")


def page_options(text):
    """The same, of a manual page: `.It Fl o , Fl -output Ar FILE`."""
    found = {}
    for line in re.findall(r"^\.It (Fl .*)$", text, re.M):
        m = re.fullmatch(r"(?:Fl (\w) , )?Fl -([a-z-]+)(?: Ar (\S+))?", line)
        assert m, f"an option that cannot be understood: .It {line}"
        assert m[2] not in found, f"--{m[2]} stands there twice"
        found[m[2]] = (m[1], m[3])
    return found


def fenced(text, *words):
    """Lines of a text's code blocks in which one of these words is a command of its own."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S)
    return [line for b in blocks for line in b.splitlines() if re.search(rf"(^|[ /|])({'|'.join(words)}) ", line)]


def commands(line):
    """The derptrace commands in a line of shell: pipes and ssh taken apart. Yields (verb words, other words)."""
    line = re.sub(r"^\s*[#$] ", "", line)
    line = line.split("   #")[0]
    for part in re.split(r"\|\s*|&& ", line):
        words = shlex.split(part)
        while words and os.path.basename(words[0]) != "derptrace":
            words.pop(0)
        if words:
            yield words[1:]


def check_command(words, where):
    """Each option of a command is one of its verb's."""
    verb = [words[0]] if words and words[0] in verbs() else []
    if verb == ["map"] and len(words) > 1 and words[1] in ("check", "fix"):
        verb.append(words[1])
    if not verb:
        assert words in (["--help"], ["--version"], []), f"{where}: no such verb: {words}"
        return
    known = help_options(*verb)
    shorts = {s for s, _ in known.values() if s}
    for w in words[len(verb):]:
        m = re.match(r"--([a-z-]+)|-(\w)$", w)
        assert not m or m[1] in known or m[2] in shorts, f"{where}: {verb} has no option {w}"


# --- the tests ------------------------------------------------------------------------------------

def test_verbs():
    """One page per verb and no other; the overview, the program and the README name the same ones."""
    names = verbs()
    pages = sorted(os.path.basename(p)[len("derptrace-"):-2] for p in glob.glob(f"{DOC}/derptrace-*.1"))
    assert pages == sorted(names), (pages, names)
    section = page().split(".Sh VERBS")[1].split(".Sh SOURCES")[0]
    assert re.findall(r"^\.It Xr derptrace-(\w+) 1$", section, re.M) == names
    readme = read("README.md")
    missing = [n for n in names if f"derptrace {n}" not in readme]
    assert not missing, f"README.md does not name {missing}"


def test_options():
    """A verb's options are those of its page and, where it takes sources, the shared ones: name, letter, argument."""
    shared = page_options(page())
    shared.pop("version")
    for verb in verbs():
        own = page_options(page(verb))
        if verb == "map":
            said = {**help_options("map", "check"), **help_options("map", "fix")}
        else:
            said = help_options(verb)
        without = re.findall(r"^It takes no((?:\n\.Fl -[a-z-]+ ?[,.]?)+)", page(verb), re.M)
        without = set(re.findall(r"-([a-z-]+)", "".join(without)))
        assert without <= set(shared), f"{verb}: {without - set(shared)} is no shared option"
        told = own if verb in NO_SOURCES else {**{k: v for k, v in shared.items() if k not in without}, **own}
        assert not (set(own) & set(shared)) or verb in NO_SOURCES, f"{verb}: told twice: {set(own) & set(shared)}"
        assert said == told, f"{verb}: only in --help: {said.items() - told.items()}, only in the manual: " \
                             f"{told.items() - said.items()}"


def test_defaults():
    """A default that the help tells stands in the option's entry."""
    for verb in verbs():
        text = page() + page(verb)
        for line in re.sub(r"\n {29}(?=\S)", " ", help_of(verb)).splitlines():
            m, default = OPTION.match(line), re.search(r"default ([^\s,;)]+)", line)
            if not m or not default:
                continue
            entry = re.search(rf"(?m)^\.It [^\n]*Fl -{m[2]}\b(.*?)^\.(?:It|El)", text, re.S)
            assert default[1] in entry[1], f"--{m[2]}: default {default[1]} is not in the manual"


def test_columns():
    """What --help says fits a terminal."""
    for words in [[], *([v] for v in verbs()), ["map", "check"], ["map", "fix"]]:
        long = [line for line in help_of(*words).splitlines() if len(line) > 80]
        assert not long, (words, long)
        told = subprocess.run([PROGRAM, "help", *words[:1]], capture_output=True, text=True, check=True).stdout
        assert told == help_of(*words[:1]), words


def test_install():
    """What is installed is all that the manual speaks of, and under DESTDIR and PREFIX alone."""
    import tempfile
    with tempfile.TemporaryDirectory(prefix="dt-docs-") as tmp:
        subprocess.run(["make", "-s", "-C", ROOT, "install", f"DESTDIR={tmp}", "PREFIX=/opt/x",
                        f"B={os.path.dirname(PROGRAM)}"], check=True)
        found = {os.path.relpath(os.path.join(folder, name), f"{tmp}/opt/x")
                 for folder, _, names in os.walk(tmp) for name in names}
        pages = {f"share/man/man{p[-1]}/{os.path.basename(p)}" for p in glob.glob(f"{DOC}/*.[1-9]")}
        assert found == pages | {"bin/derptrace", "share/derptrace/derp.lua", "share/derptrace/report.schema.json"}
        subprocess.run([f"{tmp}/opt/x/bin/derptrace", "--version"], check=True, stdout=subprocess.DEVNULL)


def test_missing_packages():
    """Where a library is not there, make names its package and the way out."""
    done = subprocess.run(["make", "-n", "-C", ROOT], env={**os.environ, "PKG_CONFIG_LIBDIR": "/nonexistent"},
                          capture_output=True, text=True)
    assert done.returncode == 2 and "libbpf-dev" in done.stderr and "zlib1g-dev" in done.stderr, done
    assert "`make deps`" in done.stderr, done
    listed = re.search(r"<!-- packages -->\n(.*?)<!-- -->", read("README.md"), re.S)[1].split()
    assert set(re.search(r"missing: (.*?)\. ", done.stderr)[1].split()) <= set(listed), done.stderr


def test_memory():
    """What a connection and a pair take is said alike in all three places."""
    said = [re.search(r"(\d+) KiB per\s+(?:open TLS )?connection,?\s+(?:and )?(\d+)\s+bytes\s+per pair and node", text)
            for text in (help_of("report"), page(), read("README.md"))]
    assert all(said) and len({m.groups() for m in said}) == 1, said


def test_subcommands_of_map():
    """Each of map's options is said of the one that has it, and the synopsis has them all."""
    text = page("map")
    for sub in ("check", "fix"):
        synopsis = text.split(f".Nm derptrace Cm map {sub}\n")[1].split("\n.Ar FILE")[0]
        names = {m[1] or m[2] for m in re.finditer(r"Fl (?:-([a-z-]+)|(\w))", synopsis)}
        options = help_options("map", sub)
        del options["help"]
        assert names == {short or name for name, (short, _) in options.items()}, (sub, names, options)


def test_sections():
    """Every page has what a reader looks for."""
    for verb in [None, *verbs()]:
        text = page(verb)
        for section in ("OVERHEAD", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
            assert f".Sh {section}\n" in text, f"derptrace{'-' + verb if verb else ''}.1 has no section {section}"


def test_files():
    """Files of the project that the manual names are there."""
    named = {f for verb in [None, *verbs()] for f in re.findall(r"^\.(?:It )?Pa (\w\S*/\S+)", page(verb), re.M)}
    assert named, "no file of the project is named"
    for name in named:
        assert os.path.exists(f"{ROOT}/{name}"), f"no such file: {name}"


def test_mandoc():
    """The pages are clean."""
    for path in sorted(glob.glob(f"{DOC}/*.[17]")):
        done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", path], capture_output=True, text=True)
        assert not done.returncode, done.stdout
    for name in re.findall(r"^\.Xr (derptrace\S* \d)", "".join(map(read, (f"doc/{os.path.basename(p)}"
                                                             for p in glob.glob(f"{DOC}/*.[17]")))), re.M):
        assert os.path.exists(f"{DOC}/{name.replace(' ', '.')}"), f"no such page: {name}"


def test_verdict_codes():
    """The manual has an entry for each class, under its code; class and code are the code's and the schema's."""
    entries = re.findall(r"^\.It (DT\d{3}) ([a-z-]+)$", read("doc/derptrace-verdicts.7"), re.M)
    table = re.findall(r'= \{ "([a-z-]+)", "(DT\d{3})"', read("user/correlate/verdict.c"))
    schema = json.loads(read("doc/report.schema.json"))["properties"]["verdicts"]["items"]["properties"]["class"]
    assert entries == [(code, name) for name, code in table]
    assert [name for _, name in entries] == schema["enum"]


def test_verdict_entries():
    """Each says what was seen, what it means, what users notice, the evidence and the fix."""
    text = read("doc/derptrace-verdicts.7")
    for entry in re.split(r"(?m)^(?=\.It DT)", text.split(".Sh VERDICTS")[1])[1:]:
        for word in ("Seen :", "Means :", "Users notice :", "Evidence :", "Fix :"):
            assert f".Em {word}\n" in entry, f"{entry.splitlines()[0]}: no {word}"


def test_map_codes():
    """The findings of `map` are those of its page: code, level, sentence."""
    told = re.findall(r"^\.It (DTM\d{3})\n(\w+): (.*)$", page("map"), re.M)
    said = re.findall(r"^  (DTM\d{3}) (\w+) +(.*)$", help_of("map"), re.M)
    assert said and told == said, set(said) ^ set(told)


def test_metrics():
    """The metrics of `serve` are those of its page."""
    told = set(re.findall(r"^\.It Li derptrace_(\w+)", page("serve"), re.M))
    said = set(re.findall(r'begin(?:_seconds)?\(out, "(\w+)"', read("user/view/metrics.c")))
    assert said and told == said, said ^ told


def test_examples():
    """What the manual, the help and the README show uses options that are there."""
    shown = 0
    for verb in [None, *verbs()]:
        where = f"derptrace{'-' + verb if verb else ''}.1"
        for line in re.findall(r"^\.Dl [#$] (.*)$", page(verb), re.M):
            for words in commands(line):
                check_command(words, where)
                shown += 1
    for verb in [[], *([v] for v in verbs() if v != "map"), ["map", "check"], ["map", "fix"]]:
        for line in re.findall(r"^  (\S.*derptrace .*|derptrace .*)$", help_of(*verb), re.M):
            for words in commands(re.split(r" {4,}", line)[0]):
                if words:
                    check_command(words, f"--help of {verb}")
    for line in fenced(read("README.md"), "derptrace"):
        if "derptrace: " not in line:
            for words in commands(line):
                check_command(words, f"README.md: {line}")
                shown += 1
    assert shown > 20, f"only {shown} examples found"


def test_map_examples_run():
    """Those that need neither root nor network do what their page says, exit code and all."""
    import tempfile
    with tempfile.TemporaryDirectory(prefix="dt-docs-") as tmp:
        with open(f"{tmp}/derpmap.json", "w") as f:
            f.write(read("tests/fuzz/corpus/derpmap/broken.json"))
        ran = []
        for line in re.findall(r"^\.Dl [#$] (derptrace map .*)$", page("map"), re.M):
            done = subprocess.run(line, shell=True, cwd=tmp, capture_output=True, text=True,
                                  env={**os.environ, "PATH": f"{os.path.dirname(PROGRAM)}:{os.environ['PATH']}"})
            ran.append(line)
            assert done.returncode in (0, 1), f"{line}: exit {done.returncode}: {done.stderr}"
            if " check derpmap.json" in line and len(ran) == 1:
                assert done.returncode == 1 and "DTM001" in done.stdout, done.stdout
        assert len(ran) >= 4, ran
        done = subprocess.run([PROGRAM, "map", "check", f"{tmp}/fixed.json"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_exit_codes():
    """Bad usage is 2, a file that cannot be read 3, and one clear line each."""
    for words, code in ((["report", "--no-such-option"], 2), (["no-such-verb"], 2), (["map"], 2), (["record"], 2),
                        (["report", "/no/such/file.dtr"], 3), (["map", "check", "/no/such/file.json"], 3),
                        (["--version"], 0)):
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True)
        assert done.returncode == code, (words, done.returncode, done.stderr)
        assert not code or len(done.stderr.splitlines()) == 1, (words, done.stderr)


def test_readme():
    """What it names is there: make targets, folders, packages."""
    readme, makefile = read("README.md"), read("Makefile")
    targets = set(re.findall(r"`make ([a-z-]+)", readme)) | set(re.findall(r"^    make ([a-z-]+)", readme, re.M))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), f"no make {target}"
    for folder in re.findall(r"^\| `([a-z/]+/)` \|", readme, re.M):
        assert os.path.isdir(f"{ROOT}/{folder}"), f"no folder {folder}"
    rooms = {f"user/{d}/" for d in os.listdir(f"{ROOT}/user") if os.path.isdir(f"{ROOT}/user/{d}")}
    missing = {r for r in rooms if f"| `{r}` |" not in readme}
    assert not missing, f"README.md has no line for {missing}"
    deps = read("tools/setup/deps.sh")
    wanted = {p for names in re.findall(r"^(?:BUILD|LIBRARIES|TESTS)='([^']*)'", deps, re.M) for p in names.split()}
    listed = re.search(r"<!-- packages -->\n(.*?)<!-- -->", readme, re.S)[1]
    said = set(listed.replace("`", "").replace(",", " ").split())
    assert said == wanted, f"packages: only in README.md {said - wanted}, only in deps.sh {wanted - said}"
