// SPDX-License-Identifier: Apache-2.0
// The program that a C++ programmer would write against llama.cpp to embed a file of lines, and
// nothing more. embellama's speed is compared with it. The plan is embellama's own, so that the
// difference is the cost of the library itself.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../../embellama/native/micro_batches.hpp"
#include "ggml-cpu.h"
#include "llama.h"

namespace {

using Clock = std::chrono::steady_clock;

using embellama::MICRO_BATCH_TEXTS;
using embellama::MICRO_BATCH_TOKENS;

constexpr int64_t CHUNK_TEXTS = 64;  // texts tokenized at a time

double processor_milliseconds() {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

double milliseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::vector<llama_token> tokenize(const llama_vocab * vocabulary, const std::string & text) {
    std::vector<llama_token> ids(text.size() + 16);
    const int32_t n_bytes = static_cast<int32_t>(text.size());
    int32_t n =
        llama_tokenize(vocabulary, text.data(), n_bytes, ids.data(), static_cast<int32_t>(ids.size()), true, true);
    if (n < 0) {
        ids.resize(-n);
        n = llama_tokenize(vocabulary, text.data(), n_bytes, ids.data(), -n, true, true);
    }
    ids.resize(n);
    return ids;
}

// One thread's context, batch and, where a computation uses several threads, their pool.
class Computer {
public:
    Computer(llama_model * model, int32_t n_tokens, int32_t n_threads) : n_dims_(llama_model_n_embd_out(model)) {
        llama_context_params params = llama_context_default_params();
        params.n_ctx = params.n_batch = params.n_ubatch = n_tokens;
        params.n_seq_max = static_cast<uint32_t>(std::min<int64_t>(MICRO_BATCH_TEXTS, n_tokens));
        params.n_threads = params.n_threads_batch = n_threads;
        params.pooling_type = LLAMA_POOLING_TYPE_NONE;
        params.embeddings = true;
        params.kv_unified = true;
        params.no_perf = true;
        context_ = llama_init_from_model(model, params);
        if (!context_) {
            throw std::runtime_error("can't make a context");
        }
        batch_ = llama_batch_ext_init(context_);
        ggml_threadpool_params pool_params = ggml_threadpool_params_default(n_threads);
        pool_params.poll = 0;  // as embellama: an idle model uses no processor time
        pool_ = ggml_threadpool_new(&pool_params);
        llama_attach_threadpool(context_, pool_, pool_);
    }

    ~Computer() {
        llama_batch_ext_free(batch_);
        llama_free(context_);
        ggml_threadpool_free(pool_);
    }

    Computer(const Computer &) = delete;
    Computer & operator=(const Computer &) = delete;

    // Computes the texts order[0] .. order[n_texts - 1] and writes their rows of `out`.
    void embed(const std::vector<std::vector<llama_token>> & ids, const int32_t * order, size_t n_texts, float * out) {
        llama_batch_ext_clear(batch_);
        for (size_t i = 0; i < n_texts; ++i) {
            int32_t position = 0;
            for (const llama_token id : ids[order[i]]) {
                const int32_t index = llama_batch_ext_add_token(batch_, static_cast<llama_seq_id>(i), id);
                llama_batch_ext_set_pos(batch_, index, &position);
                llama_batch_ext_set_output_embd(batch_, index, true);
                ++position;
            }
        }
        if (llama_process(context_, LLAMA_PROCESS_TYPE_ENCODE, batch_) != 0) {
            throw std::runtime_error("llama_process failed");
        }
        const float * rows = llama_get_embeddings(context_);
        for (size_t i = 0; i < n_texts; ++i) {
            const size_t n_rows = ids[order[i]].size();
            pool(rows, n_rows, out + static_cast<size_t>(order[i]) * n_dims_);
            rows += n_rows * n_dims_;
        }
    }

private:
    // The mean, scaled to length 1: the mean's own factor cancels.
    void pool(const float * rows, size_t n_rows, float * out) const {
        std::copy(rows, rows + n_dims_, out);
        for (size_t row = 1; row < n_rows; ++row) {
            for (size_t i = 0; i < n_dims_; ++i) {
                out[i] += rows[row * n_dims_ + i];
            }
        }
        float sum = 0;
        for (size_t i = 0; i < n_dims_; ++i) {
            sum += out[i] * out[i];
        }
        const float factor = 1 / std::sqrt(sum);
        for (size_t i = 0; i < n_dims_; ++i) {
            out[i] *= factor;
        }
    }

    size_t n_dims_;
    llama_context * context_ = nullptr;
    llama_batch_ext * batch_ = nullptr;
    ggml_threadpool * pool_ = nullptr;
};

void on_threads(int32_t n_threads, const std::function<void(int32_t)> & work) {
    std::vector<std::thread> threads;
    for (int32_t i = 0; i < n_threads; ++i) {
        threads.emplace_back(work, i);
    }
    for (auto & thread : threads) {
        thread.join();
    }
}

void embed_all(const llama_vocab * vocabulary, const std::vector<std::string> & texts,
               std::vector<std::unique_ptr<Computer>> & computers, float * out) {
    const int32_t n_threads = static_cast<int32_t>(computers.size());
    std::vector<std::vector<llama_token>> ids(texts.size());
    std::atomic<size_t> next{0};
    on_threads(n_threads, [&](int32_t) {
        for (size_t first; (first = next.fetch_add(CHUNK_TEXTS)) < texts.size();) {
            for (size_t i = first; i < std::min(first + CHUNK_TEXTS, texts.size()); ++i) {
                ids[i] = tokenize(vocabulary, texts[i]);
            }
        }
    });
    std::vector<int64_t> lengths;
    for (const auto & text : ids) {
        lengths.push_back(static_cast<int64_t>(text.size()));
    }
    const embellama::MicroBatches micro_batches =
        embellama::plan_micro_batches(lengths, MICRO_BATCH_TOKENS, MICRO_BATCH_TEXTS, n_threads);
    std::atomic<size_t> next_batch{0};
    on_threads(n_threads, [&](int32_t thread) {
        for (size_t i; (i = next_batch++) + 1 < micro_batches.bounds.size();) {
            const size_t first = micro_batches.bounds[i];
            computers[thread]->embed(ids, &micro_batches.order[first], micro_batches.bounds[i + 1] - first, out);
        }
    });
}

// A thread that sleeps until it is handed a text.
class Sleeper {
public:
    Sleeper(const llama_vocab * vocabulary, Computer & computer)
        : vocabulary_(vocabulary),
          computer_(computer),
          thread_([this] { serve(); }) {}

    ~Sleeper() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
        }
        work_.notify_one();
        thread_.join();
    }

    void embed(const std::string & text, float * out) {
        std::unique_lock<std::mutex> lock(mutex_);
        text_ = &text;
        out_ = out;
        work_.notify_one();
        done_.wait(lock, [&] { return text_ == nullptr; });
    }

private:
    void serve() {
        const int32_t order = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        while (true) {
            work_.wait(lock, [&] { return stopping_ || text_ != nullptr; });
            if (stopping_) {
                return;
            }
            lock.unlock();
            computer_.embed({tokenize(vocabulary_, *text_)}, &order, 1, out_);
            lock.lock();
            text_ = nullptr;
            done_.notify_one();
        }
    }

    const llama_vocab * vocabulary_;
    Computer & computer_;
    std::mutex mutex_;
    std::condition_variable work_;
    std::condition_variable done_;
    const std::string * text_ = nullptr;
    float * out_ = nullptr;
    bool stopping_ = false;
    std::thread thread_;  // the last, so that it starts when the others exist
};

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
}

struct Arguments {
    std::string model, texts, vectors;
    int32_t threads = 1;
    int32_t rounds = 5;
    bool one = false;
    bool paced = false;
};

[[noreturn]] void usage() {
    fputs("usage: raw_loop MODEL.gguf TEXTS.txt [--threads N] [--rounds K] [--one] [--paced] [--vectors FILE]\n"
          "\n"
          "Embeds the lines of TEXTS.txt K times (default 5) on N threads (default 1) and prints texts/s and\n"
          "processor time in ms of each round, then the best. The first, which allocates, is not counted.\n"
          "  --one      each line by itself, one after the other, on a sleeping thread that is woken for it\n"
          "             and computes with N threads; prints the median latency in ms, then the least\n"
          "  --paced    begin each round only when a line comes on standard input\n"
          "  --vectors  write the vectors to FILE as raw float32 rows\n",
          stderr);
    exit(2);
}

Arguments parse(int argc, char ** argv) {
    Arguments arguments;
    std::vector<std::string> positional;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const bool more = i + 1 < argc;
        if (argument == "--one") {
            arguments.one = true;
        } else if (argument == "--paced") {
            arguments.paced = true;
        } else if (argument == "--threads" && more) {
            arguments.threads = atoi(argv[++i]);
        } else if (argument == "--rounds" && more) {
            arguments.rounds = atoi(argv[++i]);
        } else if (argument == "--vectors" && more) {
            arguments.vectors = argv[++i];
        } else if (argument[0] != '-') {
            positional.push_back(argument);
        } else {
            usage();
        }
    }
    if (positional.size() != 2 || arguments.threads < 1 || arguments.rounds < 1) {
        usage();
    }
    arguments.model = positional[0];
    arguments.texts = positional[1];
    return arguments;
}

std::vector<std::string> read_lines(const std::string & path) {
    std::ifstream file(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        lines.push_back(line);
    }
    if (lines.empty()) {
        throw std::runtime_error(path + ": no lines to read");
    }
    return lines;
}

void run(const Arguments & arguments) {
    const std::vector<std::string> texts = read_lines(arguments.texts);
    llama_log_set(
        [](ggml_log_level level, const char * line, void *) {
            if (level == GGML_LOG_LEVEL_ERROR) {
                fputs(line, stderr);
            }
        },
        nullptr);
    llama_backend_init();
    const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
        llama_model_load_from_file(arguments.model.c_str(), llama_model_default_params()), llama_model_free);
    if (!model) {
        throw std::runtime_error(arguments.model + ": llama.cpp can't load this file");
    }
    const llama_vocab * vocabulary = llama_model_get_vocab(model.get());
    const size_t n_dims = llama_model_n_embd_out(model.get());

    // Room for the longest text, as embellama opens it.
    int32_t room = MICRO_BATCH_TOKENS;
    for (const auto & text : texts) {
        while (room < static_cast<int32_t>(tokenize(vocabulary, text).size())) {
            room *= 2;
        }
    }
    std::vector<std::unique_ptr<Computer>> computers;
    for (int32_t i = 0; i < (arguments.one ? 1 : arguments.threads); ++i) {
        computers.push_back(std::make_unique<Computer>(model.get(), room, arguments.one ? arguments.threads : 1));
    }

    std::vector<float> vectors(texts.size() * n_dims);
    std::vector<double> results;
    std::unique_ptr<Sleeper> sleeper;
    if (arguments.one) {
        sleeper = std::make_unique<Sleeper>(vocabulary, *computers[0]);
    }
    for (int32_t round = -1; round < arguments.rounds; ++round) {
        std::string line;
        if (arguments.paced && round >= 0 && !std::getline(std::cin, line)) {
            break;
        }
        const double processor = processor_milliseconds();
        double result;
        if (sleeper) {
            std::vector<double> latencies;
            for (size_t i = 0; i < texts.size(); ++i) {
                const auto start = Clock::now();
                sleeper->embed(texts[i], &vectors[i * n_dims]);
                latencies.push_back(milliseconds_since(start));
            }
            result = median(latencies);
        } else {
            const auto start = Clock::now();
            embed_all(vocabulary, texts, computers, vectors.data());
            result = 1000 * static_cast<double>(texts.size()) / milliseconds_since(start);
        }
        if (round >= 0) {
            results.push_back(result);
            printf("%.4f %.4f\n", result, processor_milliseconds() - processor);
            fflush(stdout);
        }
    }
    if (!results.empty()) {
        const auto [least, most] = std::minmax_element(results.begin(), results.end());
        printf(arguments.one ? "best %.4f ms\n" : "best %.1f texts/s\n", arguments.one ? *least : *most);
    }
    if (!arguments.vectors.empty()) {
        std::ofstream(arguments.vectors, std::ios::binary)
            .write(reinterpret_cast<const char *>(vectors.data()),
                   static_cast<std::streamsize>(vectors.size() * sizeof(float)));
    }
}

}  // namespace

int main(int argc, char ** argv) {
    try {
        run(parse(argc, argv));
    } catch (const std::exception & error) {
        fprintf(stderr, "raw_loop: %s\n", error.what());
        return 1;
    }
    return 0;
}
