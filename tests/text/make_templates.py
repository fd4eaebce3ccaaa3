#!/usr/bin/env python3
"""Golden renderings of templates: templates.json, beside this script.

    python make_templates.py                write templates.json
    python make_templates.py EXE FILE...    compare published templates (see below)

Each entry is {"template", "values", "text"}: what transformers' own environment
(jinja2's sandbox with loop controls) makes of it; "text" null where it refuses. The
templates here are Junto's own: one for each construct that published ones use, and some
whole ones. Made with Python 3.11, jinja2 3.1.6, transformers 5.23.0.

With EXE (tests/text/render_template, built beside the tests) and files of published
templates it renders each with 13 conversations and says where the bytes differ. These
templates belong to their makers and are not in this repository.
"""

import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

import transformers.utils.chat_template_utils as reference

HERE = pathlib.Path(__file__).parent
NOW = 1760000000


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc)


reference.datetime = FixedClock

VALUES = {
    "n": 7, "x": 2.5, "big": 123456789012345, "tiny": 1e-7, "huge": 1e22, "third": 1 / 3,
    "yes": True, "no": False, "nothing": None, "empty": "", "name": "Ada",
    "text": "  Hello, wörld! 漢字 🙂\n\tend ", "quoted": "it's \"both\"", "lines": "a\nb\n\nc\n",
    "list": [3, 1, 2], "words": ["pear", "Apple", "fig"], "nested": [[1, 2], [3, [4]]],
    "dict": {"b": 1, "a": [True, None], "c d": {"e": "ü"}},
    "people": [{"name": "Bo", "age": 30, "tags": ["x"]}, {"name": "Al", "age": 25, "tags": []},
               {"name": "Cy", "age": 30}],
}

# One construct each.
SNIPPETS = """
{{ n }} {{ x }} {{ big }} {{ tiny }} {{ huge }} {{ third }} {{ yes }} {{ nothing }}
{{ 1.0 }} {{ 100.0 }} {{ 1e15 }} {{ 1e16 }} {{ 0.0001 }} {{ 0.00001 }} {{ -0.5 }} {{ 1_000 }}
{{ list }} {{ dict }} {{ (1, 2) }} {{ (1,) }} {{ () }} {{ [] }} {{ {} }} {{ quoted }} {{ [quoted, 'a\\n', "it's"] }}
{{ n + 1 }} {{ n - 10 }} {{ n * 2 }} {{ n / 2 }} {{ n // 2 }} {{ -n // 2 }} {{ n % 4 }} {{ -n % 4 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ x * 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ 'a' + 'b' }} {{ 'a' ~ 1 ~ none ~ 2.0 }} {{ 'ab' * 3 }} {{ [1] * 2 + [3] }} {{ (1,) + (2,) }}
{{ 'a' + 1 }}
{{ 1 + none }}
{{ 1 / 0 }}
{{ 1 == 1.0 }} {{ 'a' == 'a' }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1.0} }} {{ 1 != 2 }} {{ none == false }} {{ true == 1 }}
{{ 1 < 2 <= 2 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}
{{ 'a' < 1 }}
{{ 'ell' in 'hello' }} {{ 2 in list }} {{ 'b' in dict }} {{ 'z' not in dict }} {{ not 2 in list }} {{ 1 in undefined_thing }}
{{ yes and 'left' }} {{ no and 'left' }} {{ empty or 'right' }} {{ not empty }} {{ not (yes and no) }}
{{ 'a' if yes else 'b' }} {{ 'a' if no else 'b' }} [{{ 'a' if no }}] {{ 1 if no else 2 if no else 3 }}
{{ list[0] }} {{ list[-1] }} [{{ list[9] }}] {{ dict['b'] }} {{ dict.b }} [{{ dict.zz }}] {{ dict['c d'].e }} {{ text[2] }} {{ nested[1][1][0] }} {{ list.0 }}
{{ list[1:] }} {{ list[:1] }} {{ list[::-1] }} {{ list[-2:] }} {{ text[2:7] }} {{ 'hello'[::-1] }} {{ 'hello'[::2] }} {{ list[5:] }} {{ 'abc'[-9:2] }} {{ list[::-2] }}
{{ list[::0] }}
{{ undefined_thing }}[{{ undefined_thing is defined }}]
{{ undefined_thing.member }}
{{ undefined_thing() }}
{{ n() }}
{{ nothing.x }}[{{ n.x }}][{{ 'a'.x }}]
{%- for i in list %}{{ i }}{{ ',' if not loop.last }}{% endfor %}
{% for i in list %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.previtem }}/{{ loop.nextitem }} {% endfor %}
{% for i in [] %}x{% else %}none{% endfor %}{% for i in undefined_thing %}x{% else %}none{% endfor %}
{% for k, v in dict.items() %}{{ k }}={{ v }};{% endfor %}{% for k in dict %}{{ k }}{% endfor %}{% for c in 'añ' %}<{{ c }}>{% endfor %}
{% for p in people if p.age == 30 %}{{ loop.index }}{{ p.name }}{{ loop.length }}{% endfor %}
{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in range(2, 9, 3) %}{{ i }} {% endfor %}{{ range(3) | list }}{{ range(3, 0, -1) | list }}
{% for i in list %}{{ loop.cycle('odd', 'even') }} {% endfor %}
{% for a, b in [[1, 2], [3]] %}{{ a }}{% endfor %}
{% for i in 5 %}{% endfor %}
{% for i in list %}{% for j in words %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% set a = 1 %}{% for i in list %}{% set a = i %}{{ a }}{% endfor %}{{ a }}
{% set ns = namespace(a=1, b='x') %}{% for i in list %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}
{% set dict.b = 2 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}
{% set block %}one {{ n }}{% endset %}[{{ block }}]{% set up | upper | trim %} small {% endset %}[{{ up }}]
{% if n == 1 %}a{% elif n == 7 %}b{% else %}c{% endif %}{% if no %}a{% elif no %}b{% else %}c{% endif %}{% if no %}a{% endif %}
{% macro m(a, b='d', c=none) %}<{{ a }}|{{ b }}|{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(c=3, a=4) }}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% macro f(i) %}{{ i }}{% if i > 0 %}{{ f(i - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{% macro show() %}{{ later }}{% endmacro %}{% set later = 'set' %}{{ show() }}
{% macro wrap(t) %}[{{ t }}:{{ caller() }}]{% endmacro %}{% call wrap('x') %}body {{ n }}{% endcall %}
{% macro each(l) %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(i) each(list) %}({{ i }}){% endcall %}
{% filter upper %}abc {{ name }}{% endfilter %}{% filter replace('a', 'b') | trim %} banana {% endfilter %}
{% generation %}mine {{ n }}{% endgeneration %}
{% raw %}{{ not }} {% this %}{% endraw %}|{%- raw -%}  x  {%- endraw -%}  |
{# a comment #}a{#- b -#} c {# d
e #}f
{{ raise_exception('no ' ~ name) }}
{{ strftime_now('%Y-%m-%d %H') }}
{{ dict | tojson }} {{ dict | tojson(indent=2) }} {{ [] | tojson(indent=2) }} {{ text | tojson }} {{ text | tojson(ensure_ascii=true) }} {{ dict | tojson(separators=(',', ':')) }} {{ dict | tojson(sort_keys=true) }} {{ 1.0 | tojson }} {{ none | tojson }} {{ {1: 2, true: 3} | tojson }} {{ (1, 'a') | tojson }} {{ '\\u0001\\x7f"\\\\' | tojson }}
{{ undefined_thing | tojson }}
{{ text | trim }}| {{ text | upper }} {{ text | lower }} {{ text | title }} {{ 'aBC dEF' | capitalize }} {{ "they're bill's-own (x)" | title }}
{{ 'xxaxx' | trim('x') }} {{ text.strip() }} {{ 'xxaxx'.strip('x') }} {{ 'xxaxx'.lstrip('x') }} {{ 'xxaxx'.rstrip('x') }} {{ 'abcab'.strip('ab') }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c'.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ lines.splitlines() }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.find('c') }} {{ 'abc'.find('z') }} {{ 'añbñ'.rfind('ñ') }} {{ 'abab'.count('ab') }} {{ 'abab'.replace('a', 'x') }} {{ 'abab'.replace('a', 'x', 1) }} {{ 'ab'.replace('', '-') }} {{ '-'.join(words) }}
{{ 'Straße'.lower() }} {{ 'ñandú'.upper() }} {{ "it's a dog's".title() }} {{ 'HELLO world'.capitalize() }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ 'AB'.isupper() }} {{ 'ab'.islower() }}
{{ 'Hi {} and {}'.format(name, n) }} {{ '{1}{0}'.format(1, 2) }} {{ '{a}'.format(a=3) }} {{ '{{}}'.format() }}
{{ 'abc'.nothing() }}
{{ words | join(', ') }} {{ people | join('/', attribute='name') }} {{ list | join }}
{{ list | length }} {{ text | length }} {{ dict | count }} {{ list | first }} {{ list | last }} [{{ [] | first }}] {{ 'abc' | first }} {{ undefined_thing | length }}
{{ list | sort }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ list | sort(reverse=true) }} {{ (people | sort(attribute='age') | map(attribute='name') | list) }}
{{ list | reverse | list }} {{ 'abc' | reverse }} {{ list | max }} {{ list | min }} {{ list | sum }} {{ people | sum(attribute='age') }} {{ words | max }} {{ (people | min(attribute='age')).name }}
{{ words | map('upper') | list }} {{ people | map(attribute='name') | join }} {{ people | map(attribute='tags.0', default='-') | list }} {{ words | map('replace', 'p', 'q') | list }}
{{ list | select('odd') | list }} {{ list | reject('odd') | list }} {{ [0, 1, '', 'a'] | select | list }} {{ list | select('>', 1) | list }} {{ list | select('in', [1, 2]) | list }}
{{ people | selectattr('age', 'equalto', 30) | map(attribute='name') | list }} {{ people | rejectattr('tags') | map(attribute='name') | list }} {{ people | selectattr('tags', 'defined') | list | length }} {{ none | selectattr('x') | list }}
{{ dict | dictsort | map('first') | list }} {{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1, 'A': 2} | dictsort(by='value', reverse=true) }} {{ dict | items | list | length }} {{ dict.keys() | list }} {{ dict.values() | list | length }} {{ dict.get('b') }} {{ dict.get('z') }} {{ dict.get('z', 5) }}
{{ [1, 2, 1, 'a', 'A'] | unique | list }} {% for k, g in people | groupby('age') %}{{ k }}:{{ g | map(attribute='name') | join }};{% endfor %} {{ [1, 2, 3] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 0) | list }}
{{ undefined_thing | default('d') }} {{ empty | default('d') }}| {{ empty | default('d', true) }} {{ empty | d('e', boolean=true) }} {{ nothing | default('d') }}
{{ '7' | int }} {{ 'x' | int }} {{ 'x' | int(3) }} {{ '7.9' | int }} {{ 7.9 | int }} {{ '1f' | int(base=16) }} {{ '2.5' | float }} {{ 'x' | float }} {{ -3 | abs }} {{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ n | string + '!' }} {{ 'a b  c' | wordcount }}
{{ lines | indent }}| {{ lines | indent(2, true) }}| {{ lines | indent(2, blank=true) }}| {{ lines | indent('> ', first=true) }}| {{ 'x' | indent }}
{{ '<a href="x">&\\'</a>' | e }} {{ '<b>' | safe }} {{ 'abc' | list }} {{ dict | list }} {{ n | string | length }}
{{ n is defined }} {{ n is number }} {{ x is float }} {{ n is integer }} {{ yes is boolean }} {{ yes is integer }} {{ yes is number }} {{ name is string }} {{ list is sequence }} {{ name is sequence }} {{ dict is mapping }} {{ list is iterable }} {{ dict is iterable }} {{ n is iterable }} {{ nothing is none }} {{ nothing is not none }} {{ range is callable }} {{ yes is true }} {{ no is false }} {{ 1 is true }}
{{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ n is eq 7 }} {{ n is equalto(7) }} {{ n is ne 7 }} {{ n is gt 3 }} {{ n is lt(3) }} {{ 2 is in list }} {{ 'a' is lower }} {{ 'A' is upper }} {{ n is sameas 7 }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ n is not odd and yes }} {{ n is odd or no }}
{{ not n is odd }} {{ n + 1 is even }} {{ -1 is number }} {{ (n is odd) is true }} {{ -n | abs }} {{ 'a' ~ 'b' | upper }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 1 - -1 }}
{{ n | nosuchfilter }}
{{ n is nosuchtest }}
{{ 'a' 'b' "c" }} {{ '\\t\\x41\\u00e9\\101\\q\\\\' }} {{ "\\"" }} {{ '}}' }} {{ '%}' }} {{ {'a': {'b': 1}}['a']['b'] }}
{{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ {'a': 1, 'a': 2} }} {{ {1: 'x'}[1] }} {{ [1, 2,] }} {{ list.index(2) }} {{ list.count(3) }}
{{ list.append(1) }}
{{ dict.update({}) }}
{% include 'x' %}
{% for i in list %}
{% endif %}
{{ unclosed
{% if %}{% endif %}
{{ }}
{{ 1 2 }}
{{ 'unclosed }}
{{ (1 }}
{{ a..b }}
{% break %}
"""

# White space control, where line ends matter.
SPACED = [
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}  \n  b\n  {%- endif %}\nc",
    "a  {%- if yes -%}  b  {%- endif -%}  c",
    "a\n   {%+ if yes %}\nb{% endif +%}\nc\n\n",
    "a\n  {# note #}\nb\n  {#- note -#}\n  c {# x +#}\nd",
    "  {{ n }}  \n  {{- n -}}  \n  {{ n }}\n",
    "{% for i in list %}\n  {{ i }}\n{% endfor %}\n{{ n }}\n\n",
    "x {% set a = 1 %} y\r\n{% set b = 2 %}\r\nz\r\n",
    "\t{% raw %}\n {{ x }}\n{% endraw %}\n.",
    "{%- set a = 1 -%}\n\n{{- a }}\n \u00a0{%- if yes %}b{% endif %}",
]

MESSAGES = [
    {"role": "system", "content": "Be brief. "},
    {"role": "user", "content": "Weather in Zürich?"},
    {"role": "assistant", "content": "", "reasoning_content": "a tool\n", "tool_calls": [
        {"id": "c1", "type": "function",
         "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 2}}}]},
    {"role": "tool", "name": "weather", "tool_call_id": "c1", "content": "{\"t\": 21.5}"},
    {"role": "assistant", "content": "<think>\nwarm\n</think>\n\n21.5 degrees."},
    {"role": "user", "content": [{"type": "text", "text": "Thanks"}, {"type": "text", "text": "!"}]},
]
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather \"now\"", "parameters": {
        "type": "object", "required": ["city"], "properties": {
            "city": {"type": "string"}, "days": {"type": "integer", "default": 1}}}}}]

# Whole templates, each in the manner of a family of published ones.
WHOLE = [
    # turns in marks, tools listed as JSON, thoughts only after the last question
    """{%- macro flat(content) -%}
    {%- if content is string -%}{{ content }}
    {%- elif content is iterable -%}
        {%- for part in content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last=messages | length - 1, looking=true) -%}
{%- for message in messages[::-1] -%}
    {%- set i = messages | length - 1 - loop.index0 -%}
    {%- if ns.looking and message.role == 'user' -%}
        {%- set ns.last = i -%}{%- set ns.looking = false -%}
    {%- endif -%}
{%- endfor -%}
{%- if tools %}
[system]
{% if messages[0].role == 'system' %}{{ flat(messages[0].content) }}{% endif %}

# Tools
{% for tool in tools %}
{{ tool | tojson }}
{% endfor %}
[end]
{% elif messages[0].role == 'system' %}
[system]
{{ flat(messages[0].content) }}[end]
{% endif %}
{% for message in messages %}
    {%- set content = flat(message.content) -%}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{ '[' + message.role + ']\n' + content + '[end]\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = message.reasoning_content if message.reasoning_content is string else '' %}
        {%- if not thought and '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
{{- '[assistant]\n' }}
        {%- if loop.index0 > ns.last and thought %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
{{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{% set call = call.function %}{% endif %}
            {{- '\n<call>{"name": "' ~ call.name ~ '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}</call>' }}
        {%- endfor %}
{{- '[end]\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '[user]' }}{% endif %}
        {{- '\n<result>\n' ~ content ~ '\n</result>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{ '[end]\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[assistant]\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}""",
    # roles must take turns; the system's words go into the first question
    """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim + '\n\n' %}{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}
{% for message in rest if message['role'] != 'tool' %}
{% if message['role'] not in ['user', 'assistant'] %}{{ raise_exception('only user and assistant: ' ~ message['role']) }}{% endif %}
{% set role = {'assistant': 'model'}.get(message['role'], message['role']) %}
{{ '<turn>' + role + '\n' + (system if loop.first else '') }}{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}{% for part in message['content'] %}{{ part['text'] | trim }}{% endfor %}{% endif %}{{ '</turn>\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}""",
    # dates, tools described by hand, parameters by type
    """{%- if not date is defined %}{% set date = strftime_now("%d %b %Y") %}{% endif -%}
{%- macro kind(spec) -%}
{%- if spec.enum %}{{ spec.enum | map('tojson') | join(' | ') }}
{%- elif spec.type == 'array' %}{{ kind(spec['items']) }}[]
{%- elif spec.type is string %}{{ {'integer': 'number'}[spec.type] or spec.type }}
{%- else %}any{% endif -%}
{%- endmacro -%}
Date: {{ date }}
{%- if tools is defined and tools is not none %}

{% for tool in tools %}
// {{ tool.function.description | default('', true) | replace('"', "'") }}
{{ tool.function.name }}({% for name, spec in tool.function.parameters.properties.items() -%}
{{ name }}{{ '?' if name not in tool.function.parameters.required }}: {{ kind(spec) }}
{%- if spec.default is defined %} = {{ spec.default }}{% endif %}{{ ', ' if not loop.last }}
{%- endfor %})
{%- endfor %}
{% endif %}
{% for m in messages | rejectattr('role', 'equalto', 'tool') %}

{{ m.role | capitalize }}: {{ m.content if m.content is string else m.content | map(attribute='text') | join('') }}
{%- endfor %}""",
]


def render(source, values):
    try:
        return reference._compile_jinja_template(source).render(**json.loads(json.dumps(values)))
    except Exception:
        return None


def entries():
    for source in SNIPPETS.strip("\n").split("\n") + SPACED:
        yield {"template": source.replace("\\\\", "\\"), "values": VALUES}
    for source in WHOLE:
        for n in (2, 3, 4, 6):
            for extra in ({}, {"tools": TOOLS}, {"tools": None, "enable_thinking": False}):
                yield {"template": source, "values": {
                    "messages": MESSAGES[:n], "bos_token": "<s>", "add_generation_prompt": n != 3,
                    **extra}}


def write_golden():
    done = []
    for entry in entries():
        done.append(entry | {"text": render(entry["template"], entry["values"])})
        if entry["values"] is VALUES:
            done[-1].pop("values")
    with open(HERE / "data" / "templates.json", "w", encoding="utf-8") as file:
        json.dump({"now": NOW, "values": VALUES, "templates": done}, file, ensure_ascii=False,
                  indent=1)
        file.write("\n")
    refused = sum(d["text"] is None for d in done)
    print(f"{len(done)} renderings, {refused} of them refused")


# ---- published templates ---------------------------------------------------------------


def conversations():
    system, question, call, result, answer, parts = MESSAGES
    as_text = json.loads(json.dumps(call))
    function = as_text["tool_calls"][0]["function"]
    function["arguments"] = json.dumps(function["arguments"])
    hello, reply = {"role": "user", "content": "Hi \U0001f642\n<b>"}, {
        "role": "assistant", "content": "Hello. "}
    for case in (
        dict(messages=[hello]), dict(messages=[system, question]),
        dict(messages=[system, hello, reply, question]),
        dict(messages=[hello, reply], add_generation_prompt=False),
        dict(messages=[hello, answer, question]),
        dict(messages=[hello, reply | {"reasoning_content": "greet"}, question],
             enable_thinking=True),
        dict(messages=[question], enable_thinking=False),
        dict(messages=[system, question], tools=TOOLS),
        dict(messages=[system, question, call, result, hello], tools=TOOLS),
        dict(messages=[question, call, result, answer, hello], tools=TOOLS,
             enable_thinking=False),
        dict(messages=[question, as_text, result], tools=TOOLS),
        dict(messages=[system, hello, reply, question, reply, hello], enable_thinking=True),
        dict(messages=[parts]),
    ):
        yield dict(bos_token="<s>", eos_token="</s>", add_generation_prompt=True) | case


def compare(exe, path):
    """Conversations whose rendering differs, and a word on the first of them."""
    source = open(path, encoding="utf-8", newline="").read()
    differ, first = 0, ""
    for number, values in enumerate(conversations()):
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(values, file, ensure_ascii=False)
            file.flush()
            run = subprocess.run([exe, path, file.name, str(NOW)], capture_output=True)
        want = render(source, values)
        got = None if run.returncode else run.stdout.decode()
        if want != got:
            differ += 1
            first = first or f"conversation {number}: {run.stderr.decode().strip()}"
    return differ, first


def main():
    if len(sys.argv) < 3:
        write_golden()
        return
    same = 0
    for path in sys.argv[2:]:
        differ, first = compare(sys.argv[1], path)
        same += not differ
        if differ:
            print(f"{pathlib.Path(path).name}: {differ} differ; {first}")
    print(f"{same} of {len(sys.argv) - 2} templates give the same bytes in every conversation")


main()
