# serve.py in a container. For the CPU, and for NVIDIA GPUs (PyPI's torch brings CUDA's libraries, the base the rest):
#   docker build -t diffa .
#   docker build -t diffa-cuda --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 --build-arg TORCH_INDEX= .
# Flags of serve.py follow the image's name; checkpoints from the hub are kept in the volume:
#   docker run -p 127.0.0.1:8000:8000 -v diffa-models:/models diffa --model_path zhoujiaming777/DIFFA
ARG BASE=ubuntu:24.04
FROM ${BASE}

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/models

# Where torch comes from besides PyPI; empty: PyPI alone, whose build is for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/diffa
COPY requirements.txt requirements-serve.txt constraints.txt ./
# DeepSpeed, which wants a compiler, is for training alone.
RUN grep --invert-match '^deepspeed' requirements.txt > requirements-answering.txt \
    && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} --constraint constraints.txt \
       --requirement requirements-answering.txt --requirement requirements-serve.txt

COPY LICENSE serve.py ask.py ./
COPY src src/
COPY serving serving/
COPY demo/assets demo/assets/

RUN useradd --uid 10001 --create-home diffa && mkdir --parents /models && chown diffa /models
USER diffa
VOLUME /models
EXPOSE 8000
# It listens once the model is loaded, which may take minutes the first time.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["python", "serve.py", "--host", "0.0.0.0", "--port", "8000"]
