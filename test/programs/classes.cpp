// SPDX-License-Identifier: Apache-2.0
/*
 * A C++ program: exceptions through many frames and across threads, containers, streams, virtual
 * functions, locales, static constructors and destructors. Exit code 3.
 */
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <fstream>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

namespace
{

struct Announced {
    explicit Announced(const char *called) : name(called)
    {
        std::cout << "construct " << name << '\n';
    }
    ~Announced()
    {
        std::cout << "destroy " << name << '\n';
    }
    const char *name;
};
Announced global("global");
thread_local int visits = 0;

struct Shape {
    virtual ~Shape() = default;
    virtual double area() const = 0;
};
struct Square : Shape {
    explicit Square(double length) : side(length)
    {
    }
    double area() const override
    {
        return side * side;
    }
    double side;
};
struct Rectangle final : Square {
    Rectangle(double length, double width) : Square(length), other(width)
    {
    }
    double area() const override
    {
        return side * other;
    }
    double other;
};

class Failure : public std::runtime_error
{
  public:
    Failure(const std::string &text, int frames) : std::runtime_error(text), depth(frames)
    {
    }
    int depth;
};

int unwound = 0;
struct Counted {
    ~Counted()
    {
        unwound++;
    }
};

int descend(int depth)
{
    Counted counted;
    if (depth == 0)
        throw Failure("the bottom was reached", 200);
    return descend(depth - 1) + 1;
}

void exceptions()
{
    int caught = 0;
    for (int i = 0; i < 100; i++) {
        try {
            descend(i);
        } catch (const std::logic_error &) {
            std::cout << "wrong handler\n";
        } catch (const Failure &failure) {
            caught += failure.depth == 200;
        }
    }
    try {
        try {
            std::vector<int>(3).at(7);
        } catch (...) {
            std::throw_with_nested(std::runtime_error("outer"));
        }
    } catch (const std::exception &outer) {
        try {
            std::rethrow_if_nested(outer);
        } catch (const std::out_of_range &) {
            std::cout << "nested in " << outer.what() << '\n';
        }
    }
    try {
        Shape *shape = new Square(1);
        std::unique_ptr<Shape> owner(shape);
        (void)dynamic_cast<Rectangle &>(*shape);
    } catch (const std::bad_cast &) {
        std::cout << "bad cast\n";
    }
    try {
        std::string(SIZE_MAX, 'x');
    } catch (const std::length_error &) {
        std::cout << "length error\n";
    }
    std::cout << "caught " << caught << ", unwound " << unwound << '\n';
}

void containers()
{
    std::map<std::string, std::vector<int>> words;
    std::istringstream text("the quick brown fox jumps over the lazy dog and the dog sleeps");
    std::string word;
    for (int at = 0; text >> word; at++)
        words[word].push_back(at);
    for (const auto &[name, places] : words) {
        if (places.size() < 2)
            continue;
        std::cout << name << ':';
        for (int place : places)
            std::cout << ' ' << place;
        std::cout << '\n';
    }
    std::unordered_map<int, int> squares;
    for (int i = 0; i < 50000; i++)
        squares[i * 7919 % 50021] = i;
    std::set<int> ordered;
    for (const auto &[key, value] : squares)
        ordered.insert(key ^ value);
    std::vector<std::unique_ptr<Shape>> shapes;
    for (int i = 1; i <= 100; i++) {
        if (i % 3 == 0)
            shapes.push_back(std::make_unique<Rectangle>(i, 0.5));
        else
            shapes.push_back(std::make_unique<Square>(i));
    }
    std::sort(shapes.begin(), shapes.end(), [](auto &a, auto &b) { return a->area() < b->area(); });
    double area = std::accumulate(shapes.begin(), shapes.end(), 0.0,
                                  [](double sum, auto &s) { return sum + s->area(); });
    std::deque<std::variant<int, std::string>> mixed;
    for (int i = 0; i < 6; i++) {
        if (i % 2)
            mixed.emplace_front(std::to_string(i));
        else
            mixed.emplace_back(i);
    }
    std::optional<int> none;
    std::cout << squares.size() << ' ' << ordered.size() << ' ' << *ordered.rbegin() << ' ' << area
              << ' ' << std::get<std::string>(mixed.front()) << ' ' << none.value_or(-1) << '\n';
}

void streams()
{
    std::ostringstream out;
    out << std::hex << std::showbase << 48879 << ' ' << std::dec << std::setw(8)
        << std::setfill('*') << 42 << ' ' << std::fixed << std::setprecision(4) << 2.0 / 3 << ' '
        << std::scientific << 12345.678 << ' ' << std::boolalpha << true << std::defaultfloat
        << std::setprecision(17) << ' ' << 0.1;
    std::cout << out.str() << '\n';
    std::istringstream in("12 0x1f -7.25 tail");
    int a = 0, b = 0;
    double c = 0;
    std::string tail;
    in >> a >> std::hex >> b >> c >> tail;
    std::cout << a + b << ' ' << c << ' ' << tail << ' ' << in.eof() << '\n';
    std::ifstream missing("/no/such/file");
    std::cout << "opened: " << missing.is_open() << '\n';
    std::string line;
    int lines = 0;
    while (std::getline(std::cin, line))
        lines++;
    std::cout << "lines on standard input: " << lines << std::endl;
    std::cerr << "on standard error" << std::endl;
}

void threads()
{
    std::mutex lock;
    std::condition_variable ready;
    std::deque<int> queue;
    std::atomic<long> sum{0};
    bool closed = false;
    std::vector<std::thread> team;
    for (int i = 0; i < 4; i++) {
        team.emplace_back([&] {
            for (;;) {
                std::unique_lock<std::mutex> hold(lock);
                ready.wait(hold, [&] { return closed || !queue.empty(); });
                if (queue.empty())
                    return;
                int item = queue.front();
                queue.pop_front();
                hold.unlock();
                sum += item;
                visits++;
                try {
                    if (item % 10 == 0)
                        throw item;
                } catch (int thrown) {
                    sum += thrown;
                }
            }
        });
    }
    for (int i = 1; i <= 2000; i++) {
        std::lock_guard<std::mutex> hold(lock);
        queue.push_back(i);
        ready.notify_one();
    }
    {
        std::lock_guard<std::mutex> hold(lock);
        closed = true;
    }
    ready.notify_all();
    for (auto &thread : team)
        thread.join();
    auto failing =
        std::async(std::launch::async, []() -> int { throw Failure("from another thread", 1); });
    std::string what;
    try {
        failing.get();
    } catch (const Failure &failure) {
        what = failure.what();
    }
    std::promise<std::string> promise;
    std::thread keeper([&] { promise.set_value("kept"); });
    std::cout << "sum " << sum << ", own visits " << visits << ", " << what << ", promise "
              << promise.get_future().get() << '\n';
    keeper.join();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

} // namespace

int main()
{
    Announced local("local");
    exceptions();
    containers();
    streams();
    threads();
    return 3;
}
