"""With LangChain (`langchain-openai`): a whole answer, then a chain that streams."""

import os

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url=os.environ.get("INFERRY_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("INFERRY_KEY", "not-asked-for"),
    model=os.environ.get("INFERRY_MODEL", "chat"),
    temperature=0,
    max_tokens=30,
)

answer = model.invoke("Where is the Eiffel Tower?")
print(answer.content)
print(f"({answer.usage_metadata['output_tokens']} tokens)")

chain = ChatPromptTemplate.from_messages([("user", "Where is the {thing}?")]) | model | StrOutputParser()
for piece in chain.stream({"thing": "Eiffel Tower"}):
    print(piece, end="", flush=True)
print()
