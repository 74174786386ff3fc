# The example service, from this checkout.
FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY otel_monitoring otel_monitoring
COPY examples examples
RUN pip install --no-cache-dir -c constraints.txt '.[mongodb]' uvicorn && useradd --uid 10001 demo
USER demo
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --retries=20 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/api/health/live')"]
CMD ["python", "-m", "uvicorn", "examples.earlybird.app:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]
