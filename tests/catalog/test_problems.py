"""What operators read when an edit is wrong: line, place, value, fix."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest

NEW_MODEL = "  new: {{capabilities: [text_input], {}}}\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "fast: {models: [gpt-5-mini,",
            "fast: {models: [gpt5-mini,",
            "tiers.fast.models[0]: unknown model 'gpt5-mini' — did you mean 'gpt-5-mini'?",
        ),
        (
            "{provider: local, id: mini,",
            "{provider: locl, id: mini,",
            "models.gpt-5-mini.deployments[1].provider: unknown provider 'locl' — did you mean 'local'?",
        ),
        (
            "openai: {adapter: openai,",
            "openai: {adapter: opnai,",
            "providers.openai.adapter: unknown adapter 'opnai' — did you mean 'openai'?",
        ),
        (
            "[healthy, cheapest]",
            "[helthy, cheapest]",
            "tiers.fast.policy[0]: unknown policy 'helthy' — did you mean 'healthy'?",
        ),
        (
            "capabilities: [text_input, image_input,",
            "capabilities: [text_input, imgae_input,",
            "models.gpt-5-mini.capabilities[1]: must be one of the known values, not 'imgae_input' "
            "— did you mean 'image_input'?",
        ),
        (
            "display_name: GPT-5 mini",
            "displayname: GPT-5 mini",
            "models.gpt-5-mini.displayname: unknown key 'displayname' — did you mean 'display_name'?",
        ),
        (
            "display_name: GPT-5 mini",
            "display_name: 5",
            "models.gpt-5-mini.display_name: must be text, not 5 — put it in quotes",
        ),
        (
            "unsupported_params: {max_tokens: max_completion_tokens}",
            "unsupported_params: {max_tokens: drop}",
            "models.gpt-5-mini.unsupported_params: max_tokens caps what an answer may cost; say reject, or the name to "
            "send it under",
        ),
        (
            'input: "0.25"',
            'input: "0.2500001"',
            "models.gpt-5-mini.prices[0].usd_per_mtok.input: must have no more than 6 decimal places, not '0.2500001'",
        ),
        (
            'input: "0.25", ',
            "",
            "models.gpt-5-mini.prices[0].usd_per_mtok: 'input' is missing — add it: Uncached prompt",
        ),
        (
            "from: 2025-08-07",
            "from: 7.8.2025",
            "models.gpt-5-mini.prices[0].from: must be a date, as in 2026-11-20, not '7.8.2025'",
        ),
        (
            "input_tokens: 272000",
            "input_tokens: many",
            "models.gpt-5-mini.context.input_tokens: must be a whole number, not 'many'",
        ),
        (
            "temperature: 0.2",
            "temperature: 3",
            "models.gpt-5-mini.params.temperature: must be less than or equal to 2, not 3",
        ),
        (
            "temperature: [0, 1]",
            "temperature: [1, 0]",
            "providers.anthropic.param_ranges.temperature: the lowest value stands first; swap them",
        ),
        (
            "http://127.0.0.1:18000/v1, allow_private: true",
            "http://127.0.0.1:18000/v1",
            "providers.local.base_url: 'http://127.0.0.1:18000/v1' names the private, loopback or "
            "link-local address 127.0.0.1; if that is meant, add allow_private: true",
        ),
        (
            "default: claude-haiku-4-5}",
            "default: claude-haiku}",
            "tiers.fast.default: unknown model 'claude-haiku' — did you mean 'claude-haiku-4-5'?",
        ),
        (
            "{text: claude-haiku-4-5}",
            "{text: claude}",
            "providers.anthropic.defaults.text: unknown model 'claude' — known: claude-haiku-4-5, gpt-5-mini",
        ),
        (
            "gpt-3.5-turbo: fast",
            "gpt-3.5-turbo: fats",
            "aliases.gpt-3.5-turbo: unknown target 'fats' — did you mean 'fast'?",
        ),
        (
            "gpt-3.5-turbo: fast",
            "gpt-5-mini: fast",
            "aliases.gpt-5-mini: is a name of the catalog already (line 10), which it would hide; remove it",
        ),
        (
            "gpt-3.5-turbo: fast",
            "a: fast, b: a",
            "aliases.b: unknown target 'a' — an alias of an alias; name what it stands for",
        ),
        (
            "quality: quick, require",
            "quality: quik, require",
            "tiers.quick.match.quality: unknown quality 'quik' — did you mean 'quick'?",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {policy: [cheapest]}",
            "tiers.quick: needs either models or match; give exactly one of them",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "gpt-5-mini: {models: [claude-haiku-4-5]}",
            "tiers.gpt-5-mini: is also the name of a model (line 10); rename one",
        ),
        (
            "models: [gpt-5-mini, claude-haiku-4-5]",
            "models: [gpt-5-mini, gpt-5-mini, claude-haiku-4-5]",
            "tiers.fast.models[1]: 'gpt-5-mini' stands here twice; remove one",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{step_down: {when: budget_left < 20%, to: fsat}}]}",
            "tiers.quick.policy[0]: unknown tier 'fsat' — did you mean 'fast'?",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{canary: {name: c, models: [claude-haiku-4-5], share: 5%}}]}",
            "tiers.quick.policy[0]: unknown model of the tier 'claude-haiku-4-5'",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{shadow: {name: s, to: gpt-5-minni, share: 5%, "
            "budget: {usd: 1, per: day}}}]}",
            "tiers.quick.policy[0]: unknown model or deployment 'gpt-5-minni' — did you mean 'gpt-5-mini'?",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{experiment: {name: e, arms: {a: {}, b: {}}}}, "
            "{canary: {name: e, models: [gpt-5-mini], share: 5%}}]}",
            "tiers.quick.policy[1]: a second 'e' in this tier; give it another name",
        ),
        (
            "tiers:\n",
            NEW_MODEL.format("deployments: [{provider: local, id: a}, {provider: local, id: b}]") + "tiers:\n",
            "models.new.deployments[1]: a second deployment 'local/new' — give it a suffix, as in suffix: eu",
        ),
        (
            "tiers:\n",
            NEW_MODEL.format("replacement: new") + "tiers:\n",
            "models.new.replacement: leads in a circle: new -> new; break it",
        ),
        (
            "tiers:\n",
            NEW_MODEL.format("deprecated_on: 2026-05-01, retires_on: 2026-04-01") + "tiers:\n",
            "models.new: retires_on 2026-04-01 lies before deprecated_on 2026-05-01; swap them",
        ),
        (
            "default: claude-haiku-4-5}",
            "on_caller_left: {action: wait}}",
            "tiers.fast.on_caller_left.action: must be one of the known values, not 'wait' — known: cancel, drain",
        ),
        (
            "openai: {adapter: openai,",
            "openai: {adapter: openai, headers: {Authorization: Bearer x},",
            "providers.openai.headers: header 'Authorization' is set by the gateway; remove it "
            "(credentials belong in api_key)",
        ),
        (
            "  openai: {adapter: openai, api_key",
            "  azure: {adapter: azure}\n  openai: {adapter: openai, api_key",
            "providers.azure: 'base_url' is missing — adapter azure has no address of its own; add one",
        ),
    ],
)
def test_a_wrong_edit_names_its_line_and_its_fix(document: str, problems, old: str, new: str, said: str) -> None:
    """Each problem stands at its line, with its place in the document, the value and what to do."""
    assert old in document
    lines = problems(document.replace(old, new, 1))
    edited = document[: document.index(old)].count("\n") + 1
    assert len(lines) == 1
    assert lines[0].startswith(f"catalog.yaml:{edited}: {said}")


def test_of_very_many_problems_the_first_are_told(document: str, problems) -> None:
    """To word all 20,000 would take seconds, and more memory than a refusal may (S24)."""
    many = "".join(f"  m{n}: {{display: x}}\n" for n in range(10_000))
    line = document[: document.index("models:\n")].count("\n") + 2
    said = problems(document.replace("models:\n", f"models:\n{many}", 1))
    assert said[0] == "catalog.yaml: has 20,000 problems; the first 1,000 were looked at"
    assert said[1].startswith(f"catalog.yaml:{line}: models.m0: 'capabilities' is missing")
    assert said[-1].startswith("catalog.yaml: 901 more problems")


@pytest.mark.parametrize(("target", "meant"), [("fast@opnai", "openai"), ("fsat@openai", "fast"), ("fsat", "fast")])
def test_a_slip_in_what_an_alias_stands_for(document: str, problems, target: str, meant: str) -> None:
    """Be it in the tier or in the provider."""
    (said,) = problems(document.replace("aliases: {gpt-3.5-turbo: fast}", f"aliases: {{one: {target}}}"))
    assert said.endswith(f"aliases.one: unknown target '{target}' — did you mean '{meant}'?")


def in_circle(count: int) -> str:
    return "".join(f"  m{n}: {{capabilities: [text_input], replacement: m{(n + 1) % count}}}\n" for n in range(count))


def test_a_circle_of_many_models_is_told_in_few_words(document: str, problems) -> None:
    """Each of them names the next ones, not all."""
    said = problems(document.replace("models:\n", f"models:\n{in_circle(1_500)}", 1))
    assert said[0] == "catalog.yaml: has more than 1,000 wrong names; the first were looked at"
    ahead = " -> ".join(f"m{n}" for n in range(24))
    assert said[1].endswith(f": models.m0.replacement: leads in a circle: {ahead} -> …; break it")


def test_each_model_of_a_circle_is_told_of_it(document: str, problems) -> None:
    """From where it stands; one that only leads there is not to blame."""
    circle = in_circle(3) + "  m3: {capabilities: [text_input], replacement: m1}\n"
    said = [line.partition(": ")[2] for line in problems(document.replace("models:\n", f"models:\n{circle}", 1))]
    assert said == [
        "models.m0.replacement: leads in a circle: m0 -> m1 -> m2 -> m0; break it",
        "models.m1.replacement: leads in a circle: m1 -> m2 -> m0 -> m1; break it",
        "models.m2.replacement: leads in a circle: m2 -> m0 -> m1 -> m2; break it",
    ]


@pytest.mark.parametrize("aliased", [False, True])
def test_many_slips_among_many_names_are_told_quickly(document: str, problems, aliased: bool) -> None:
    """Each comes with the name that was meant, as if there were few (S24)."""
    models = "".join(f"  model-{n}: {{capabilities: [text_input]}}\n" for n in range(2_000))
    if aliased:
        slips = "".join(f"  a{n}: modle-{n}\n" for n in range(900))
        text = document.replace("aliases: {gpt-3.5-turbo: fast}", f"aliases:\n{slips}".rstrip())
    else:
        slips = ", ".join(f"modle-{n}" for n in range(900))
        text = document.replace("models: [gpt-5-mini,", f"models: [{slips}, gpt-5-mini,")
    begun = time.process_time()
    said = problems(text.replace("models:\n", f"models:\n{models}", 1))
    assert time.process_time() - begun < 5  # half a second; comparing with each name took twenty
    assert len(said) == 101
    meant = re.compile(r".*'modle-(\d+)' — did you mean 'model-\1'\?$")
    assert all(map(meant.match, said[:100]))


def test_a_name_unlike_all_of_many_is_told_how_many_there_are(document: str, problems) -> None:
    """To list a dozen of them would help nobody."""
    models = "".join(f"  model-{n}: {{capabilities: [text_input]}}\n" for n in range(100))
    text = document.replace("models: [gpt-5-mini,", "models: [zzz, gpt-5-mini,")
    (said,) = problems(text.replace("models:\n", f"models:\n{models}", 1))
    assert "unknown model 'zzz' — 10" in said and said.endswith("are known, none of them like it")


def test_many_tiers_and_providers_are_not_multiplied(document: str, problems) -> None:
    """A caller may name each tier at each provider; a document of a few kilobytes must not take gigabytes (S24)."""
    tiers = "".join(f"  t{n}: {{models: [gpt-5-mini]}}\n" for n in range(1_000))
    providers = "".join(f"  p{n}: {{adapter: openai}}\n" for n in range(1_000))
    text = document.replace("aliases: {gpt-3.5-turbo: fast}", "aliases: {one: t7@p8, t9@p9: fast, two: t7@nobody}")
    text = text.replace("tiers:\n", f"tiers:\n{tiers}", 1).replace("providers:\n", f"providers:\n{providers}", 1)
    tracemalloc.start()
    said = problems(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000  # a million names took 110
    line = text[: text.index("  t9: ")].count("\n") + 1
    assert [each.partition("aliases.")[2] for each in said] == [
        f"t9@p9: is a name of the catalog already (line {line}), which it would hide; remove it",
        "two: unknown target 't7@nobody' — 1,003 are known, none of them like it",
    ]


def test_all_problems_are_told_at_once(document: str, problems) -> None:
    """Wrong types, unknown keys and names that lead nowhere, in the order of their lines."""
    text = (
        document.replace("adapter: anthropic", "adapter: antropic")
        .replace("display_name: GPT-5 mini", "display_name: [GPT-5]")
        .replace(
            "    quality: quick\n    capabilities: [text_input, text_output",
            "    quality: 4\n    can: [text_input, text_output",
        )
        .replace("models: [gpt-5-mini, claude", "models: [gpt-5-minni, claude")
        .replace("precise: {temperature: 0.0}", "precise: {temprature: 0.0}")
    )
    places = [line.split(": ")[0] + " " + line.split(": ")[1] for line in problems(text)]
    assert places == [
        "catalog.yaml:4 providers.anthropic.adapter",
        "catalog.yaml:11 models.gpt-5-mini.display_name",
        "catalog.yaml:26 models.claude-haiku-4-5",
        "catalog.yaml:27 models.claude-haiku-4-5.quality",
        "catalog.yaml:28 models.claude-haiku-4-5.can",
        "catalog.yaml:37 tiers.fast.models[0]",
        "catalog.yaml:40 presets.precise.temprature",
    ]


@pytest.mark.parametrize("secret", ["sk-proj-abcdefghijklmnop", "hunter2", "env: OPENAI", "file:relative/path"])
def test_a_secret_in_the_document_is_refused_and_not_repeated(document: str, problems, secret: str) -> None:
    """Only references are taken, and the message does not show what stood there (S21)."""
    (line,) = problems(document.replace("api_key: env:OPENAI_API_KEY", f"api_key: '{secret}'"))
    assert line.startswith("catalog.yaml:2: providers.openai.api_key: must be a reference, env:NAME or file:/path")
    assert secret not in line


def test_a_price_row_before_the_one_above_it_is_refused(document: str, problems) -> None:
    """Rows are appended by date, so that what was charged stays as it was."""
    row = "      - {from: 2025-08-06, usd_per_mtok: {input: 1, output: 1}}\n    deployments:\n"
    (line,) = problems(document.replace("    deployments:\n", row, 1))
    assert line == (
        "catalog.yaml:23: models.gpt-5-mini.prices[1].from: '2025-08-06' is not after the row before (2025-08-07); "
        "append rows by date"
    )


@pytest.mark.parametrize(
    "text",
    [
        'providers: {}\nmodels: {}\naliases: {a: "FORGED"}\n',
        'providers: {}\nmodels: {"FORGED": {}}\n',
        'providers: {}\nmodels: {}\n"FORGED": 1\n',
        'providers: {"FORGED": {adapter: openai}}\nmodels: {m: {deployments: [{provider: x, id: m}]}}\n',
        'providers: {}\nmodels: {"FORGED": {replacement: "FORGED"}}\n',
        'providers: {p: {adapter: "FORGED"}}\nmodels: {}\n',
    ],
)
def test_text_from_the_document_cannot_forge_lines(problems, text: str) -> None:
    """Line breaks and terminal codes in names and values do not reach the message as such (S18)."""
    lines = problems(text.replace("FORGED", "x\\n\\u001b[31mcatalog.yaml:1: fine"))
    assert all(line.startswith("catalog.yaml:") for line in lines)
    assert "\x1b" not in "".join(lines)
    assert not any(line == "\x1b[31mcatalog.yaml:1: fine" or line.startswith("catalog.yaml:1: fine") for line in lines)
